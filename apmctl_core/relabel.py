"""Labelling: images and a pool become logits, by one teacher or by the mean of all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from apmctl_core.data import Dataset
from apmctl_core.data.sampling import stratified_sample
from apmctl_core.examples import RealSource, segment_length
from apmctl_core.models.registry import build
from apmctl_core.runtime import Runtime
from apmctl_core.seeding import Stream
from apmctl_core.training import Predictor
from apmctl_core.values import Baseline, TeacherPool

# Random baselines of small sets are drawn anew for each network, of larger ones once: their spread is small by then.
_DRAWS = 5
_LARGE = 2_000_000  # logits in a baseline of one draw
_CHUNK = 500


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
        size = segment_length(min(_CHUNK, len(images)), self._runtime.segment)
        for number in self.teachers:
            self._predict.load(self._pool.states[number])
            for start in range(0, len(images), size):
                part = images[start : start + size].to(self._runtime.device)
                total[start : start + size] += self._predict(part, size).cpu()
        return total / len(self.teachers)


def random_baseline(dataset: Dataset, ipc: int, labeller: Labeller, pool: TeacherPool, stream: Stream) -> Baseline:
    """Random real images, `ipc` a class, labelled as the set is; five draws for small sets, one for large ones."""
    per_draw = ipc * dataset.num_classes * dataset.num_classes
    draws = _DRAWS if per_draw <= _LARGE else 1
    index = [
        torch.from_numpy(
            stratified_sample(dataset.train.labels, ipc, stream.at("baseline", d).generator(), dataset.classes)
        )
        for d in range(draws)
    ]
    real = RealSource(dataset.train, pool.preprocessing, torch.device("cpu"), "fp32")
    logits = [torch.cat([labeller(real.batch(part)[0]) for part in draw.split(_CHUNK)]) for draw in index]
    return Baseline(index_DM=torch.stack(index), logits_DMK=torch.stack(logits))
