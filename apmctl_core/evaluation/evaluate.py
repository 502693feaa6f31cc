"""Evaluation: networks trained on a set, tested on the test split, beside as many random real images.

Random real images get the same labels, protocol and number of networks. The test split decides nothing: the accuracy
is that of the last epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.data import Dataset
from apmctl_core.errors import NumericsError
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.evaluation.scores import scores_of
from apmctl_core.events import Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.segment import Segment
from apmctl_core.models import NetworkSize, build
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD
from apmctl_core.training.checkpoint import Snapshot, progress
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource, Source, TensorSource, exact_images
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.procedure import Procedure
from apmctl_core.values import DistilledSet, Task

_STATE = "networks"


def evaluate(
    distilled: DistilledSet, dataset: Dataset, models: Sequence[ModelConfig], config: EvalConfig, context: Context
) -> tuple[ReportRow, ...]:
    """Train and test `config.repeats` networks for each architecture and kind of labels, and as many on random images.

    Accuracies are kept as they come. Raises NumericsError where a training diverges.
    """
    accuracies = _Accuracies(distilled, len(models), config, context)
    test = RealSource(dataset.test, distilled.preprocessing, context.device, context.precision)
    procedures = PROTOCOLS[config.protocol].procedures
    rows = []
    for model in models:
        for labels in config.labels:
            networks = _Networks(model, labels, procedures[labels], dataset, test, config, context)
            rows.append(_row(networks, accuracies, distilled, dataset, config, context))
    return tuple(rows)


def cost(config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize]) -> Cost:
    """What an evaluation asks of the machine at its heaviest: the networks that share compiled code."""
    passes = config.repeats * 2 * (config.epochs * images * ALL_GRADIENTS + task.test * FORWARD)
    held = 2 * images * task.image_bytes
    costs = [s.cost(task, passes=passes, step=min(config.batch, images), fixed_bytes=held) for s in sizes]
    heaviest = max(costs, key=lambda c: c.step_flops)
    return replace(heaviest, image_bytes=max(c.image_bytes for c in costs), whole=max(c.whole for c in costs))


class _Accuracies:
    """The accuracies measured so far, by network, and the segment to go on with."""

    def __init__(self, distilled: DistilledSet, models: int, config: EvalConfig, context: Context) -> None:
        kept = context.keeper.load(_STATE)
        self._context = context
        self._known: dict[str, float] = dict(kept.meta["accuracies"]) if kept else {}
        self._segment = context.runtime.resumed(kept.segment) if kept else context.segment
        self._total = models * len(config.labels) * config.repeats * (2 if distilled.baseline else 1)

    def get(self, key: str, measure: Callable[[Segment], float]) -> float:
        """The accuracy of a network, known or measured."""
        if key not in self._known:
            accuracy, self._segment = self._context.attempt(measure, self._segment)
            self._known[key] = accuracy
            done = len(self._known)
            meta = {"accuracies": self._known, "progress": progress(done, self._total, "network")}
            self._context.keeper.save(_STATE, Snapshot({}, meta, self._segment.limit))
            self._context.emit(
                Progress(stage="evaluate", done=done, total=self._total, unit="network", metrics={"accuracy": accuracy})
            )
        return self._known[key]


class _Networks:
    """The networks of one row: one architecture, one kind of labels, shared compiled code."""

    def __init__(
        self,
        model: ModelConfig,
        labels: str,
        procedure: Procedure,
        dataset: Dataset,
        test: Source,
        config: EvalConfig,
        context: Context,
    ) -> None:
        self.model = model
        self.labels = labels
        self.name = f"{model.arch}/{model.width}/{labels}"
        self._test = test
        self._config = config
        self._context = context
        self._build = functools.partial(build, model, dataset.shape, dataset.num_classes)
        self._trainer = Trainer(self._build(0), procedure, context)
        self._predict = Predictor(self._build(0), context)

    def describe(self) -> dict[str, Any]:
        """How these networks are trained, read from what trains them."""
        return self._trainer.procedure.describe(self._config)

    def accuracy(self, images: str, repeat: int, source: Source, segment: Segment) -> float:
        """The test accuracy of one network trained on a source; `images` says which, for the random stream."""
        stream = self._context.stream.at(self.name, images, repeat)
        initial = self._build(stream.at("weights").number).state_dict()
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch == 1:
                self._context.checkpoint(segment)

        self._trainer.fit(initial, source, self._config, stream, segment, after_epoch=after_epoch)
        if not torch.isfinite(last):
            raise NumericsError(f"network {repeat} ({self.name}, {images}) diverged", "try a lower `evaluate.lr`")
        self._predict.load(self._trainer.weights())
        return self._predict.accuracy(self._test, segment)


def _row(
    networks: _Networks,
    accuracies: _Accuracies,
    distilled: DistilledSet,
    dataset: Dataset,
    config: EvalConfig,
    context: Context,
) -> ReportRow:
    def measured(images: str, source: Callable[[int], Source]) -> tuple[float, ...]:
        return tuple(
            accuracies.get(
                f"{networks.name}/{images}/{repeat}",
                lambda segment, repeat=repeat: networks.accuracy(images, repeat, source(repeat), segment),  # type: ignore[misc]
            )
            for repeat in range(config.repeats)
        )

    soft = networks.labels == "soft"
    own = measured("distilled", lambda _: _distilled(distilled, soft, context))
    random: tuple[float, ...] = ()
    if distilled.baseline is not None:
        random = measured("random", lambda repeat: _random(distilled, dataset, soft, repeat, context))
    row = ReportRow(
        arch=networks.model.arch,
        labels=networks.labels,
        accuracies=own,
        random_accuracies=random,
        protocol={
            "name": config.protocol,
            "networks": config.repeats,
            "width": networks.model.width,
            **networks.describe(),
            "images": len(distilled.images),
            "random_draws": len(distilled.baseline.index_DM) if distilled.baseline else 0,
            "test_images": len(dataset.test),
            "precision": context.precision,
            "selection": "last epoch",
        },
    )
    return msgspec.structs.replace(row, scores=scores_of(row))


def _distilled(distilled: DistilledSet, soft: bool, context: Context) -> Source:
    targets = distilled.logits if soft else distilled.labels
    return TensorSource(distilled.images.to(context.device), targets.to(context.device))


def _random(distilled: DistilledSet, dataset: Dataset, soft: bool, repeat: int, context: Context) -> Source:
    """The random real images of one repeat, in the set's space; each repeat has a draw of its own if there is one."""
    baseline = distilled.baseline
    assert baseline is not None
    draw = repeat % len(baseline.index_DM)
    images, hard = exact_images(dataset.train, distilled.preprocessing, baseline.index_DM[draw])
    targets = baseline.logits_DMK[draw] if soft else hard
    return TensorSource(images.to(context.device), targets.to(context.device))
