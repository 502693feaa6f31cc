"""Labelling: images and a pool become logits, by one teacher or by the mean of all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from apmctl_core.data import Dataset
from apmctl_core.data.sampling import stratified_sample
from apmctl_core.errors import Interrupted
from apmctl_core.events import Emit, Progress
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models.registry import build
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Keeper, Snapshot, Thrifty
from apmctl_core.training.examples import RealSource
from apmctl_core.training.loop import Predictor
from apmctl_core.values import Baseline, TeacherPool

# Random baselines of small sets are drawn anew for each network, of larger ones once: their spread is small by then.
_DRAWS = 5
_LARGE = 2_000_000  # logits in a baseline of one draw
CHUNK = 500  # images that are labelled at once
_STATE = "labels"

Label = Callable[[Tensor], Tensor]  # images (M, C, H, W) -> logits (M, K)


class Labeller:
    """f_T(u) for a pool: the teacher drawn from `stream`, or the mean of the committee."""

    def __init__(self, pool: TeacherPool, committee: str, *, stream: Stream, runtime: Runtime, precision: str) -> None:
        self._pool = pool
        self._runtime = runtime
        self._predict = Predictor(build(pool.model, pool.shape, pool.num_classes), runtime, precision)
        chosen = stream.at("labeller").integer(len(pool))
        self.teachers = [chosen] if committee == "single" else list(range(len(pool)))

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (M, K) on the CPU of images (M, C, H, W) in the pool's space."""
        total = torch.zeros(len(images), self._pool.num_classes)
        for number in self.teachers:
            self._predict.load(self._pool.states[number])
            total += self._runtime.segment.attempt(lambda: self._logits(images), self._runtime.device)
        return total / len(self.teachers)

    def _logits(self, images: Tensor) -> Tensor:
        size = self._runtime.segment.length(min(CHUNK, len(images)))
        parts = (part.to(self._runtime.device) for part in images.split(size))
        return torch.cat([self._predict(part, size).cpu() for part in parts])


class KeptLabels:
    """A labeller whose logits are saved as they come: asked again for the same images in the same order, it goes on.

    The same order is what a resumed run asks in, since draws depend on nothing but their streams.
    """

    def __init__(self, label: Label, keeper: Keeper, total: int, emit: Emit) -> None:
        """`total` is the number of images that will be labelled, all calls together."""
        kept = keeper.load(_STATE)
        self._label = label
        self._total = total
        self._emit = emit
        self._saving = Thrifty(keeper, _STATE)
        self._found = [kept.tensors["logits"]] if kept else []
        self._given = 0  # images whose logits were handed out in this process

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (M, K) on the CPU of images (M, C, H, W)."""
        return torch.cat([self._part(part) for part in images.split(CHUNK)])

    def _part(self, images: Tensor) -> Tensor:
        begin, self._given = self._given, self._given + len(images)
        if self._given > self._done():
            try:
                self._found.append(self._label(images))
                self._emit(Progress(stage="label", done=self._done(), total=self._total, unit="image"))
            except Interrupted:
                if self._found:
                    self._saving.last(self._pack)
                raise
            self._saving.offer(self._pack)
            return self._found[-1]
        return self._found[0][begin : self._given]

    def _done(self) -> int:
        return sum(map(len, self._found))

    def _pack(self) -> Snapshot:
        progress = {"done": self._done(), "total": self._total, "unit": "image"}
        return Snapshot({"logits": torch.cat(self._found)}, {"progress": progress})


def draws_of(ipc: int, num_classes: int) -> int:
    """How many random baselines a set of `ipc` images a class is compared with: five where it is small, else one."""
    return _DRAWS if ipc * num_classes * num_classes <= _LARGE else 1


def random_baseline(dataset: Dataset, ipc: int, labeller: Label, pool: TeacherPool, stream: Stream) -> Baseline:
    """Random real images, `ipc` a class, labelled as the set is; five draws for small sets, one for large ones."""
    index = [
        torch.from_numpy(
            stratified_sample(dataset.train.labels, ipc, stream.at("baseline", d).generator(), dataset.classes)
        )
        for d in range(draws_of(ipc, dataset.num_classes))
    ]
    real = RealSource(dataset.train, pool.preprocessing, torch.device("cpu"), "fp32")
    logits = [torch.cat([labeller(real.batch(part)[0]) for part in draw.split(CHUNK)]) for draw in index]
    return Baseline(index_DM=torch.stack(index), logits_DMK=torch.stack(logits))
