"""Coresets: real images chosen by what a pool of teachers makes of them, to stand beside a set as random ones do.

Shape legend: n images of one class, F features, K classes, T teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from apmctl_core.data import Dataset, require_images
from apmctl_core.events import Progress
from apmctl_core.models import build
from apmctl_core.registry import Registry
from apmctl_core.stages.labelling import Labeller
from apmctl_core.training.context import Context
from apmctl_core.training.examples import exact_images
from apmctl_core.training.loop import Predictor
from apmctl_core.values import Baseline, TeacherPool

_CHUNK = 500  # images in a pass


@dataclass(frozen=True, eq=False)
class ClassView:
    """The training images of one class as teachers see them, each reading computed when it is first asked for.

    `label` is the class, `count` n.
    """

    label: int
    count: int
    _teachers: _Teachers
    _index: Tensor

    @cached_property
    def features(self) -> Tensor:
        """What the first teacher's last layer is given, (n, F)."""
        return self._teachers.features(self._index)

    @cached_property
    def probabilities(self) -> Tensor:
        """The probabilities that each teacher gives to the classes, (T, n, K)."""
        return self._teachers.probabilities(self._index)


Choose = Callable[[ClassView, int], Tensor]  # and how many to choose -> their places among the n, int64, all different
CORESETS: Registry[Choose] = Registry("evaluate.baseline")


def coreset(name: str) -> Callable[[Choose], Choose]:
    """Register a way to choose images of a class under the name that `eval` knows it by."""
    return lambda function: CORESETS.add(name, function)


def choose(name: str, ipc: int, dataset: Dataset, pool: TeacherPool, context: Context) -> Tensor:
    """Indices (K * ipc,) of training images, those of class 0 first. Memory holds the images of one class at a time.

    Raises DataError where a class has fewer than `ipc` images.
    """
    function, teachers = CORESETS[name], _Teachers(dataset, pool, context)
    chosen, seen = [], 0
    for label, index in enumerate(_by_class(dataset, ipc)):
        chosen.append(index[function(ClassView(label, len(index), teachers, index), ipc)])
        seen += len(index)
        context.emit(Progress(stage="choose", done=seen, total=len(dataset.train), unit="image"))
    return torch.cat(chosen)


def labelled(index: Tensor, committee: str, dataset: Dataset, pool: TeacherPool, context: Context) -> Baseline:
    """The images of a coreset under the labels of a pool, as those of a set are; labels of the same teacher."""
    label = Labeller(pool, committee, context, len(index))
    logits = [label(exact_images(dataset.train, pool.preprocessing, part)[0]) for part in index.split(_CHUNK)]
    return Baseline(index_DM=index[None], logits_DMK=torch.cat(logits)[None])


def _by_class(dataset: Dataset, ipc: int) -> Iterator[Tensor]:
    labels = dataset.train.labels
    counts = require_images(labels, ipc, dataset.classes)
    order = torch.from_numpy(np.argsort(labels, kind="stable"))
    yield from order.split(counts.tolist())


class _Teachers:
    """The teachers of a pool as they look at training images."""

    def __init__(self, dataset: Dataset, pool: TeacherPool, context: Context) -> None:
        self._dataset, self._pool, self._context = dataset, pool, context.eager()
        self._network = build(pool.model, pool.shape, pool.num_classes)
        self._predict = Predictor(self._network, self._context)

    def features(self, index: Tensor) -> Tensor:
        """What the last linear layer of the first teacher is given; its logits where it has no such layer."""
        layers = [layer for layer in self._network.modules() if isinstance(layer, nn.Linear)]
        given: list[Tensor] = []

        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given.append(inputs[0].flatten(1).float().cpu())

        hook = layers[-1].register_forward_pre_hook(look) if layers else None
        found = []
        for logits in self._passes(0, index):
            found.append(torch.cat(given)[: len(logits)] if layers else logits)  # a pass may be padded
            given.clear()
        if hook is not None:
            hook.remove()
        return torch.cat(found)

    def probabilities(self, index: Tensor) -> Tensor:
        """The probabilities of all teachers."""
        return torch.stack([torch.cat([*self._passes(t, index)]).softmax(1) for t in range(len(self._pool))])

    def _passes(self, number: int, index: Tensor) -> Iterator[Tensor]:
        """Logits of one teacher, some images after the others."""
        self._predict.load(self._pool.states[number])
        for part in index.split(_CHUNK):
            images, _ = exact_images(self._dataset.train, self._pool.preprocessing, part)
            yield self._predict.in_segments(images, self._context.segment, _CHUNK).cpu()
