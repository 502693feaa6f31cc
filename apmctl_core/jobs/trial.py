"""A trial: how fast a job's network trains on this machine, from a few short stretches of steps."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from apmctl_core.config import TrainConfig
from apmctl_core.jobs.job import Job
from apmctl_core.machine.load import Neighbours
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models import build
from apmctl_core.models.size import ALL_GRADIENTS
from apmctl_core.seeding import Stream
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure

_STRETCHES, _STRETCH_SECONDS = 5, 0.15
_LONG_SECONDS = 1.5  # two stretches are enough where they take so long
# Images in a step: as many as the work has, of a large network fewer, that a step may take a fraction of a second.
_MOST, _LEAST, _STEP_FLOPS = 256, 16, 2e10
# How much faster compiled training is than eager, by precision and whether the network is small: measured at widths 32
# and 128 on 32x32 images (METHOD).
_COMPILE_GAIN = {("bf16", True): 3.2, ("bf16", False): 2.0, ("fp32", True): 2.0, ("fp32", False): 1.5}
_SCALING = 0.8  # n threads compute this power of n times faster than one
_SMALL = 1.2e7  # multiply-adds an image: about those of ConvNet-3 of width 64 on 32x32 images


@dataclass(frozen=True)
class Speed:
    """Operations a second: on this machine if it had nothing else to do, and as it is now."""

    quiet: float
    now: float


def speed(job: Job, batch: int, runtime: Runtime) -> Speed:
    """How fast a job's network trains here, in steps of about `batch` images; compilation is allowed for.

    Threads that share their cores with other processes wait for each other at every operation, which takes up to ten
    times longer. What they would reach alone is then told by a single one.
    """
    neighbours, threads = Neighbours(), torch.get_num_threads()
    found = _tried(job, batch, runtime)
    if threads == 1 or neighbours.slowdown(runtime.device) == 1:
        return found
    torch.set_num_threads(1)
    try:
        alone = _tried(job, batch, runtime)
    finally:
        torch.set_num_threads(threads)
    return Speed(quiet=max(found.quiet, alone.quiet * threads**_SCALING), now=found.now)


def _tried(job: Job, batch: int, runtime: Runtime) -> Speed:
    task, multiply_adds = job.task, max(1.0, job.size.multiply_adds)
    batch = min(batch, max(_LEAST, min(_MOST, int(_STEP_FLOPS / (ALL_GRADIENTS * multiply_adds)))))
    network = build(job.recipe.model, task.shape, task.num_classes)
    initial = {k: v.clone() for k, v in network.state_dict().items()}
    eager = Runtime(device=runtime.device, compile=False)
    context = Context(stream=Stream(0), runtime=eager, precision=job.recipe.precision)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context)
    source = TensorSource(
        torch.randn(batch, *task.shape, device=runtime.device),
        torch.randn(batch, task.num_classes, device=runtime.device),
    )
    alone = runtime.device.type == "cpu" and torch.get_num_threads() == 1
    watch, config = _Stopwatch(alone=alone), TrainConfig(epochs=10**9, batch=batch)  # an epoch is a step
    with contextlib.suppress(_Enough):
        trainer.fit(initial, source, config, context.stream, context.segment, after_epoch=watch)
    gain = _COMPILE_GAIN[job.recipe.precision, job.size.multiply_adds < _SMALL] if runtime.compile else 1.0
    operations = batch * ALL_GRADIENTS * multiply_adds * gain
    return Speed(quiet=operations / watch.fastest, now=operations / watch.mean)


class _Enough(Exception):
    """Ends a trial."""


class _Stopwatch:
    """Seconds a step in the fastest of a few stretches: the one that other work on the machine has slowed least.

    Those of the processor where one thread computes, since they leave out what it waited for others. `mean` is that of
    all stretches, as they passed.
    """

    def __init__(self, *, alone: bool) -> None:
        self.fastest = self.mean = float("inf")
        self._clocks = (time.perf_counter, time.process_time) if alone else (time.perf_counter,)
        self._began: list[float] = []
        self._first = 0.0
        self._steps = self._all = self._stretches = 0

    def __call__(self, epoch: int, total: Tensor) -> None:  # noqa: ARG002
        float(total)  # waits for the device
        now = [clock() for clock in self._clocks]
        if not self._began:  # the first step warms up
            self._began, self._first = now, now[0]
            return
        self._steps, self._all = self._steps + 1, self._all + 1
        if now[0] - self._began[0] < _STRETCH_SECONDS:
            return
        passed = [after - before for after, before in zip(now, self._began, strict=True)]
        self.mean = (now[0] - self._first) / self._all
        self.fastest = min(self.fastest, min(passed) / self._steps)
        self._began, self._steps, self._stretches = now, 0, self._stretches + 1
        if self._stretches == _STRETCHES or (self._stretches > 1 and now[0] - self._first > _LONG_SECONDS):
            raise _Enough
