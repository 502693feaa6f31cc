"""How much work a recipe is: multiply-adds, activations, and from them time and memory before anything runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from apmctl_core.config import ApmConfig, ModelConfig, Recipe
from apmctl_core.data import Dataset
from apmctl_core.machine import memory
from apmctl_core.machine.runtime import Runtime, choose_precision
from apmctl_core.machine.segment import Load, segment_length
from apmctl_core.models.registry import build, depth_of, state_shapes
from apmctl_core.seeding import Stream
from apmctl_core.stages.labelling import CHUNK
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Schedule, Trainer, match_logits

Shape = tuple[int, int, int]
_TRAIN, _PULL, _FORWARD = 6, 4, 2  # floating-point operations per multiply-add: all gradients, inputs' only, none


@dataclass(frozen=True)
class Task:
    """The data as far as the amount of work depends on it."""

    shape: Shape
    num_classes: int
    train: int
    test: int


def task_of(dataset: Dataset) -> Task:
    """What the amount of work depends on, of a data set at hand."""
    return Task(dataset.shape, dataset.num_classes, len(dataset.train), len(dataset.test))


def multiply_adds(model: ModelConfig, shape: Shape, num_classes: int) -> float:
    """Multiply-adds of one image's forward pass."""
    channels, h, w = shape
    total = 0.0
    for _ in range(depth_of(model.arch)):
        total += 9 * channels * model.width * h * w
        channels, h, w = model.width, h // 2, w // 2
    return total + channels * h * w * num_classes


def teacher_load(recipe: Recipe, task: Task) -> Load:
    """A pool: teachers trained on batches of real images."""
    t = recipe.teachers
    images = t.count * (t.epochs * task.train * _TRAIN + task.test * _FORWARD)
    return _load(recipe, task, images * _multiply_adds(recipe, task), min(t.batch, task.train), 0, 0)


def distill_load(recipe: Recipe, task: Task) -> Load:
    """A distillation: students, then the images' rounds."""
    d = recipe.distill
    assert isinstance(d, ApmConfig)
    total = d.ipc * task.num_classes
    drawn = d.drawn(task.num_classes)
    students = math.ceil(d.rounds / d.refresh_every) * d.student.epochs * drawn * _TRAIN
    pulls = d.rounds * drawn * (d.checkpoints * _PULL + _FORWARD + _PULL)
    step = min(d.student.batch, drawn)
    # All images and their momentum; of the drawn ones the copies that a cycle works on.
    images = (2 * total + 4 * drawn) * math.prod(task.shape) * 4
    work = (students + pulls) * _multiply_adds(recipe, task)
    return _load(recipe, task, work, step, max(step, drawn), images + d.checkpoints * _weight_bytes(recipe, task))


def evaluate_load(recipe: Recipe, models: Sequence[ModelConfig], images: int, task: Task) -> Load:
    """The networks that share compiled code, of the heaviest architecture: of one kind of labels, on a set's images."""
    e = recipe.evaluate
    work = e.repeats * 2 * (e.epochs * images * _TRAIN + task.test * _FORWARD)
    held = 2 * images * math.prod(task.shape) * 4
    found = [replace(recipe, model=model) for model in models]
    loads = [_load(r, task, work * _multiply_adds(r, task), min(e.batch, images), 0, held) for r in found]
    heaviest = max(loads, key=lambda load: load.step_flops)
    return replace(heaviest, image_bytes=max(load.image_bytes for load in loads))


def label_load(recipe: Recipe, task: Task) -> Load:
    """Labels for a set by its teachers, without gradients."""
    images = recipe.distill.ipc * task.num_classes
    return _load(recipe, task, 0, 0, min(CHUNK, images), images * math.prod(task.shape) * 4)


def _load(recipe: Recipe, task: Task, flops: float, step: int, most: int, fixed: float) -> Load:
    """`step` images in a training step, at most `most` in a pass without one, `fixed` bytes whatever the segment."""
    whitening = 3 * math.prod(task.shape) ** 2 * 4 if recipe.data.preprocessing == "zca" else 0
    networks = 4 * _weight_bytes(recipe, task)  # weights, gradients, momentum, and a teacher's
    return Load(
        flops=flops,
        step_flops=step * _TRAIN * _multiply_adds(recipe, task),
        images=max(step, most, 1),
        image_bytes=activation_bytes(recipe.model, task.shape, recipe.precision),
        fixed_bytes=fixed + whitening + networks,
    )


def _multiply_adds(recipe: Recipe, task: Task) -> float:
    return multiply_adds(recipe.model, task.shape, task.num_classes)


def _weight_bytes(recipe: Recipe, task: Task) -> int:
    return 4 * sum(map(math.prod, state_shapes(recipe.model, task.shape, task.num_classes).values()))


def rate(model: ModelConfig, task: Task, batch: int, runtime: Runtime, precision: str) -> float:
    """Operations a second that training of this network reaches here, by a short trial; compilation is allowed for."""
    batch = min(batch, 64)
    network = build(model, task.shape, task.num_classes)
    initial = {k: v.clone() for k, v in network.state_dict().items()}
    eager = Runtime(device=runtime.device, compile=False)
    trainer = Trainer(network, match_logits, eager, precision, batch=batch)
    source = TensorSource(
        torch.randn(batch, *task.shape, device=runtime.device),
        torch.randn(batch, task.num_classes, device=runtime.device),
    )
    times: list[float] = []
    schedule = Schedule(epochs=1, lr=0.01, momentum=0.9, weight_decay=0.0, batch=batch)
    while sum(times) < 0.6 or len(times) < 4:
        began = time.perf_counter()
        trainer.fit(initial, source, schedule, Stream(0))
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    operations = batch * _TRAIN * multiply_adds(model, task.shape, task.num_classes)
    fastest = sorted(times[1:])[len(times[1:]) // 2]
    return operations / fastest * (_compile_gain(model, precision) if runtime.compile else 1.0)


def _compile_gain(model: ModelConfig, precision: str) -> float:
    """How much faster compiled training is than eager, measured at widths 32 and 128 on 32x32 images (METHOD)."""
    if precision == "bf16":
        return 3.2 if model.width < 64 else 2.0
    return 2.0 if model.width < 64 else 1.5


def activation_bytes(model: ModelConfig, shape: Shape, precision: str) -> float:
    """Bytes that one image's activations take in a pass with gradients."""
    _, h, w = shape
    elements = 0.0
    width = 2 if precision == "bf16" else 4
    for _ in range(depth_of(model.arch)):
        # convolution's output, normalised, rectified, and the gradient of one of them; pooled at a quarter
        elements += model.width * h * w * 4.25
        h, w = h // 2, w // 2
    return elements * width


def peak_bytes(load: Load, runtime: Runtime) -> int:
    """Bytes at the peak of a stage under a runtime that was made for it: the process, the stage, the largest pass."""
    longest = segment_length(load.images, runtime.segment.limit)
    return int(memory.held(runtime.device) + runtime.whole(load).fixed_bytes + longest * load.image_bytes)


def precision_of(recipe: Recipe, task: Task, device: torch.device) -> str:
    """The precision that a recipe's networks run at on a device."""
    return choose_precision(recipe.precision, device, multiply_adds(recipe.model, task.shape, task.num_classes))
