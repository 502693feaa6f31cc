"""Labelling: images and a pool become logits, by one teacher or by the mean of all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from apmctl_core.data import Dataset, stratified_sample
from apmctl_core.errors import Interrupted
from apmctl_core.events import Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.models import NetworkSize, build
from apmctl_core.training.checkpoint import Snapshot, ThrottledSaver
from apmctl_core.training.context import Context
from apmctl_core.training.examples import exact_images
from apmctl_core.training.loop import Predictor
from apmctl_core.values import Baseline, Task, TeacherPool

# Random baselines of small sets are drawn anew for each network, of larger ones once: their spread is small by then.
_DRAWS = 5
_LARGE = 2_000_000  # logits in a baseline of one draw
_CHUNK = 500  # images that are labelled at once
_STATE = "labels"

Label = Callable[[Tensor], Tensor]  # images (M, C, H, W) -> logits (M, K)


class Labeller:
    """f_T(u) for a pool: the teacher drawn from the context's stream, or the mean of the committee.

    Logits are kept as they come. Asked for the same images in the same order, as a resumed run asks (draws depend on
    nothing but their streams), it takes those that are kept.
    """

    def __init__(self, pool: TeacherPool, committee: str, context: Context, own: int = 0, total: int = 0) -> None:
        """`own` images come first, those of a set; `total` are labelled by all calls together."""
        kept = context.keeper.load(_STATE)
        self._pool, self._context, self._own, self._total = pool, context, own, total
        self.segment = context.runtime.resumed(kept.segment) if kept else context.segment
        self._saver = ThrottledSaver(context.keeper, _STATE)
        self._predict = Predictor(build(pool.model, pool.shape, pool.num_classes), context)
        self._parts = [kept.tensors["logits"]] if kept else []
        self._given = 0  # images whose logits were handed out in this process
        chosen = context.stream.at("labeller").integer(len(pool))
        self.teachers = [chosen] if committee == "single" else list(range(len(pool)))

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (M, K) on the CPU of images (M, C, H, W) in the pool's space."""
        return torch.cat([self._part(part) for part in images.split(_CHUNK)])

    def _part(self, images: Tensor) -> Tensor:
        begin, self._given = self._given, self._given + len(images)
        if self._given <= self._done():
            return self._parts[0][begin : self._given]
        try:
            self._parts.append(self._logits(images))
            self._context.emit(self._progress())
        except Interrupted:
            if self._parts:
                self._saver.last(self._packed)
            raise
        self._saver.offer(self._packed)
        return self._parts[-1]

    def _logits(self, images: Tensor) -> Tensor:
        total = torch.zeros(len(images), self._pool.num_classes)
        for number in self.teachers:
            self._predict.load(self._pool.states[number])
            logits, self.segment = self._context.attempt(
                lambda segment: self._predict.in_segments(images, segment, _CHUNK).cpu(), self.segment
            )
            total += logits
        return total / len(self.teachers)

    def _done(self) -> int:
        return sum(map(len, self._parts))

    def _progress(self) -> Progress:
        done, own = self._done(), self._own
        if done <= own:
            return Progress(stage="label", done=done, total=own, unit="image")
        return Progress(stage="label random", done=done - own, total=self._total - own, unit="image")

    def _packed(self) -> Snapshot:
        return Snapshot({"logits": torch.cat(self._parts)}, {}, self.segment.limit, self._progress())


def label_images(
    images: Tensor, ipc: int, committee: str, dataset: Dataset, pool: TeacherPool, context: Context
) -> tuple[Tensor, Baseline, list[int]]:
    """Logits (M, K) of images (M, C, H, W), as many random real images under the same labels, and who labelled."""
    total = len(images) * (1 + draws_of(ipc, dataset.num_classes))
    label = Labeller(pool, committee, context.eager(), len(images), total)
    return label(images), random_baseline(dataset, ipc, label, pool, context), label.teachers


def draws_of(ipc: int, num_classes: int) -> int:
    """How many random baselines a set of `ipc` images a class is compared with: five where it is small, else one."""
    return _DRAWS if ipc * num_classes * num_classes <= _LARGE else 1


def random_baseline(dataset: Dataset, ipc: int, label: Label, pool: TeacherPool, context: Context) -> Baseline:
    """Random real images, `ipc` a class, labelled as the set is; five draws for small sets, one for large ones."""
    draws = range(draws_of(ipc, dataset.num_classes))
    index = [
        torch.from_numpy(
            stratified_sample(dataset.train.labels, ipc, context.stream.at("baseline", d).generator(), dataset.classes)
        )
        for d in draws
    ]
    parts = [[label(exact_images(dataset.train, pool.preprocessing, p)[0]) for p in i.split(_CHUNK)] for i in index]
    return Baseline(index_DM=torch.stack(index), logits_DMK=torch.stack([torch.cat(part) for part in parts]))


def cost(ipc: int, task: Task, size: NetworkSize) -> Cost:
    """What labelling a set asks of the machine: passes without gradients, in pieces."""
    images = ipc * task.num_classes
    return size.cost(task, passes=0, step=0, most=min(_CHUNK, images), fixed_bytes=images * task.image_bytes)


def logits_bytes(ipc: int, task: Task) -> int:
    """Bytes of the logits of a set and of its baselines."""
    images = ipc * task.num_classes
    return 4 * images * task.num_classes * (1 + draws_of(ipc, task.num_classes))
