"""Distillation: the cycles of a method, one after the other, and their state kept so that a run can be resumed."""

from __future__ import annotations

import torch
from torch import Tensor

from apmctl_core.config import DistillConfig
from apmctl_core.data import Dataset
from apmctl_core.errors import Interrupted, NumericsError
from apmctl_core.events import Note, Progress
from apmctl_core.methods import METHODS, ImageState, Method, Update
from apmctl_core.training.checkpoint import Snapshot, ThrottledSaver
from apmctl_core.training.context import Context
from apmctl_core.training.examples import random_real_images
from apmctl_core.values import TeacherPool

DISTANCE = "distance_from_start"  # the metric
_STATE = "images"
_FAR = 10  # times the range of real images; the presets end below 3
_OWN = ("images", "labels")  # all other tensors of a state are the method's


def distill(dataset: Dataset, pool: TeacherPool, config: DistillConfig, context: Context) -> ImageState:
    """Distil `config.ipc` images a class by the method of a config. Returns the state after the last cycle.

    The state after a cycle is kept. The last one's metrics say how far the images are from their start.

    Raises DataError where a class has too few real images to start from, NumericsError where a loss or an image stops
    being finite.
    """
    method = METHODS[config.method](dataset, pool, config, context)
    state = _restored(context) or method.first()
    saver, watch = ThrottledSaver(context.keeper, _STATE), _Watch(method)

    def snapshot() -> Snapshot:
        return _packed(state, method, config)

    try:
        while state.cycle < method.cycles:
            before = state.segment.limit
            update, state.segment = context.attempt(lambda segment: method.cycle(state, segment), state.segment)
            state.apply(update)
            watch.see(update)
            context.emit(_progress(state, method, config))
            # Cycles that were computed in longer segments must not be done again in shorter ones.
            saver.offer(snapshot, now=state.segment.limit != before)
    except (Interrupted, NumericsError):
        if state.cycle:
            saver.last(snapshot)
        raise
    saver.done(snapshot)
    state.metrics[DISTANCE] = _distance(method.start(), state.images)
    return state


def _distance(start: Tensor, images: Tensor) -> float:
    """The root mean square of what was added to the images, in standard deviations of what they began as."""
    scale = max(float(start.std()), torch.finfo(torch.float32).tiny)
    return float((start - images).square_().mean().sqrt()) / scale


class _Watch:
    """Warns once where images leave the range of the real ones by far: they stay finite, and teach nothing."""

    def __init__(self, method: Method) -> None:
        rng = method.context.stream.at("range").generator()
        real = random_real_images(method.dataset, 1, method.pool.preprocessing, rng)
        self._method, self._reach, self._warned = method, max(1.0, float(real.abs().max())), False

    def see(self, update: Update) -> None:
        largest = float(update.images.abs().max())
        if self._warned or largest <= _FAR * self._reach:
            return
        self._warned = True
        text = f"images left the range of the data: values up to {largest:,.0f}, where real ones reach"
        text = f"{text} {self._reach:.1f}; try a lower {self._method.brake}"
        self._method.context.emit(Note(text=text, level="warning"))


def _progress(state: ImageState, method: Method, config: DistillConfig) -> Progress:
    done = method.rounds(state.cycle)
    return Progress(stage="distill", done=done, total=config.rounds, unit="round", metrics=state.metrics)


def _packed(state: ImageState, method: Method, config: DistillConfig) -> Snapshot:
    tensors = {"images": state.images, "labels": state.labels, **state.extra}
    meta = {"cycle": state.cycle, "metrics": state.metrics}
    return Snapshot(tensors, meta, state.segment.limit, _progress(state, method, config))


def _restored(context: Context) -> ImageState | None:
    kept = context.keeper.load(_STATE)
    if kept is None:
        return None
    return ImageState(
        images=kept.tensors["images"],
        labels=kept.tensors["labels"],
        extra={name: values for name, values in kept.tensors.items() if name not in _OWN},
        segment=context.runtime.resumed(kept.segment),
        cycle=int(kept.meta["cycle"]),
        metrics=dict(kept.meta["metrics"]),
    )
