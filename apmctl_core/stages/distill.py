"""Adversarial prediction matching: real data and a pool of teachers become synthetic images (APM, Algorithm 1).

One refresh cycle draws a teacher and B of the M images, trains a fresh student on them, and lets its checkpoints
pull the images for G rounds.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from apmctl_core.config import ApmConfig
from apmctl_core.data import Dataset
from apmctl_core.data.sampling import stratified_sample
from apmctl_core.errors import ConfigError, Interrupted, NumericsError
from apmctl_core.events import Emit, Progress, silent
from apmctl_core.machine.interrupts import shielded
from apmctl_core.machine.runtime import Runtime
from apmctl_core.methods.matching import Matcher
from apmctl_core.models.registry import build
from apmctl_core.seeding import Stream
from apmctl_core.training import augment
from apmctl_core.training.checkpoint import Keeper, Nowhere, Snapshot, Thrifty
from apmctl_core.training.examples import RealSource, TensorSource
from apmctl_core.training.loop import Predictor, Schedule, Trainer, match_logits
from apmctl_core.values import State, TeacherPool

_STATE = "images"


@dataclass
class _Images:
    """The state of a run after `cycle` refresh cycles; images and momentum change only between cycles."""

    cycle: int
    images: Tensor  # (M, C, H, W) float32
    momentum: Tensor  # (M, C, H, W) float32
    labels: Tensor  # (M,) int64
    metrics: dict[str, float]  # of the latest cycle


def distill(
    dataset: Dataset,
    pool: TeacherPool,
    config: ApmConfig,
    *,
    stream: Stream,
    runtime: Runtime,
    precision: str,
    keeper: Keeper | None = None,
    emit: Emit = silent,
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Distil `config.ipc` images a class. Returns images (M, C, H, W), their classes (M,) and metrics.

    The state after a cycle is saved with `keeper` and found again. Raises DataError where a class has too few real
    images to start from, NumericsError where a loss or an image stops being finite.
    """
    work = _Work(dataset, pool, config, stream, runtime, precision)
    keeper = keeper or Nowhere()
    state = _restore(keeper, runtime.device) or work.initial(dataset)
    saving = Thrifty(keeper, _STATE)
    cycles = math.ceil(config.rounds / config.refresh_every)
    try:
        while state.cycle < cycles:
            before = runtime.segment.limit
            runtime.segment.attempt(lambda: work.cycle(state), runtime.device)
            done = min(state.cycle * config.refresh_every, config.rounds)
            emit(Progress(stage="distill", done=done, total=config.rounds, unit="round", metrics=state.metrics))
            # Cycles that were computed in longer segments must not be done again in shorter ones.
            saving.offer(lambda: _pack(state, config), now=runtime.segment.limit != before)
    except (Interrupted, NumericsError):
        if state.cycle:
            saving.last(lambda: _pack(state, config))
        raise
    saving.done(lambda: _pack(state, config))
    return state.images.cpu(), state.labels.cpu(), state.metrics


class _Work:
    """The compiled parts of a run, and one refresh cycle made of them."""

    def __init__(
        self,
        dataset: Dataset,
        pool: TeacherPool,
        config: ApmConfig,
        stream: Stream,
        runtime: Runtime,
        precision: str,
    ) -> None:
        self._config = config
        self._pool = pool
        self._stream = stream
        self._runtime = runtime
        self._precision = precision
        self._build = functools.partial(build, pool.model, dataset.shape, dataset.num_classes)
        self._trainer = Trainer(self._build(0), match_logits, runtime, precision, batch=config.student.batch)
        self._predict = Predictor(self._build(0), runtime, precision)
        self._matcher = Matcher(self._build(0), config.objective, config.alpha, runtime, precision)

    def initial(self, dataset: Dataset) -> _Images:
        """The state before the first cycle: random real images of each class, or noise in their place."""
        c = self._config
        labels = torch.arange(dataset.num_classes).repeat_interleave(c.ipc)
        rng = self._stream.at("init").generator()
        if c.init == "real":
            index = torch.from_numpy(stratified_sample(dataset.train.labels, c.ipc, rng, dataset.classes))
            # Whitened exactly, not in bf16: these values are kept.
            real = RealSource(dataset.train, self._pool.preprocessing, self._runtime.device, "fp32")
            images = torch.cat([real.batch(part)[0] for part in index.split(1000)])
        else:
            images = torch.randn(len(labels), *dataset.shape, generator=rng).to(self._runtime.device)
        return _Images(0, images, torch.zeros_like(images), labels.to(images.device), {})

    def cycle(self, state: _Images) -> None:
        """Run one refresh cycle and move its result into `state`, with what was measured on the way."""
        c = self._config
        stream = self._stream.at("cycle", state.cycle)
        index = self._drawn(len(state.images), stream)
        teacher = self._on_device(self._pool.states[stream.at("teacher").integer(len(self._pool))])
        before = state.images[index]
        u, momentum, y = before.clone(), state.momentum[index], state.labels[index]
        checkpoints, student_loss = self._student(u, teacher, stream.at("student"))
        first = state.cycle * c.refresh_every
        matched = torch.zeros(())
        for r in range(first, min(first + c.refresh_every, c.rounds)):
            draws = self._draws(len(u), stream.at("round", r))
            gradient, matched = self._matcher.gradient(u, y, teacher, checkpoints, draws)
            momentum = momentum * c.image_momentum + gradient
            u -= self._image_rate(r) * momentum
        metrics = {
            "student_loss": float(student_loss),
            "match_loss": float(matched),
            "moved": float((u - before).square().mean().sqrt()),
        }
        self._check(metrics, u, first)
        with shielded():
            state.images[index] = u
            state.momentum[index] = momentum
            state.metrics = metrics
            state.cycle += 1

    def _drawn(self, count: int, stream: Stream) -> Tensor:
        size = min(self._config.batch or count, count)
        if size == count:
            return torch.arange(count, device=self._runtime.device)
        return (
            torch.randperm(count, generator=stream.at("draw").generator())[:size].sort().values.to(self._runtime.device)
        )

    def _draws(self, count: int, stream: Stream) -> Tensor | None:
        if not self._config.augment_images:
            return None
        return augment.draw(count, stream.generator())

    def _student(self, u: Tensor, teacher: State, stream: Stream) -> tuple[list[State], Tensor]:
        """Train a fresh student on (u, f_T(u)); returns Kc checkpoints at equal intervals, the last one included."""
        c = self._config
        source = TensorSource(u, self._teach(u, teacher))
        schedule = Schedule(
            epochs=c.student.epochs,
            lr=c.student.lr,
            momentum=c.student.momentum,
            weight_decay=c.student.weight_decay,
            batch=c.student.batch,
        )
        wanted = {round(i * c.student.epochs / c.checkpoints) for i in range(1, c.checkpoints + 1)}
        checkpoints: list[State] = []
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch in wanted:
                checkpoints.append(self._trainer.weights())

        initial = self._build(stream.at("weights").number).state_dict()
        self._trainer.fit(initial, source, schedule, stream, after_epoch=after_epoch)
        return checkpoints, last

    def _teach(self, u: Tensor, teacher: State) -> Tensor:
        """f_T(u): the labels that a student trains on, those of the images as they are."""
        self._predict.load(teacher)
        size = self._runtime.segment.length(len(u))
        return torch.cat([self._predict(part, size) for part in u.split(size)])

    def _image_rate(self, r: int) -> float:
        c = self._config
        if c.image_lr is None:
            raise ConfigError("--image-lr is not set", "complete the recipe before it is run")
        return c.image_lr * (c.image_decay if r >= c.rounds / 2 else 1.0)

    def _on_device(self, state: State) -> State:
        return {name: value.to(self._runtime.device) for name, value in state.items()}

    def _check(self, metrics: dict[str, float], u: Tensor, first: int) -> None:
        broken = (~torch.isfinite(u).flatten(1).all(1)).nonzero().flatten()
        if len(broken) == 0 and all(math.isfinite(value) for value in metrics.values()):
            return
        size = self._runtime.segment.length(len(u))
        where = f", segment {int(broken[0]) // size}" if len(broken) else ""
        low = "--student-lr" if not math.isfinite(metrics["student_loss"]) else "--image-lr"
        raise NumericsError(
            f"a loss or an image stopped being finite in round {first}{where}",
            f"try a lower {low}, or --precision fp32; the state before this round is kept",
        )


def _pack(state: _Images, config: ApmConfig) -> Snapshot:
    done = min(state.cycle * config.refresh_every, config.rounds)
    tensors = {"images": state.images, "momentum": state.momentum, "labels": state.labels}
    progress = {"done": done, "total": config.rounds, "unit": "round"}
    return Snapshot(tensors, {"cycle": state.cycle, "metrics": state.metrics, "progress": progress})


def _restore(keeper: Keeper, device: torch.device) -> _Images | None:
    kept = keeper.load(_STATE)
    if kept is None:
        return None
    images, momentum, labels = (kept.tensors[name].to(device) for name in ("images", "momentum", "labels"))
    return _Images(int(kept.meta["cycle"]), images, momentum, labels, dict(kept.meta["metrics"]))
