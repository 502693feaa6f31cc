"""How much work a recipe is: multiply-adds, activations, and from them time and memory before anything runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from apmctl_core.config import DistillConfig, EvalConfig, ModelConfig, Recipe, TeacherConfig
from apmctl_core.data import Dataset
from apmctl_core.examples import TensorSource, segment_length
from apmctl_core.models.registry import build, depth_of
from apmctl_core.runtime import Runtime, choose_precision, peak_memory
from apmctl_core.seeding import Stream
from apmctl_core.training import Schedule, Trainer, match_logits

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


def teacher_flops(model: ModelConfig, config: TeacherConfig, task: Task) -> float:
    """Operations of a pool."""
    images = config.count * (config.epochs * task.train * _TRAIN + task.test * _FORWARD)
    return images * multiply_adds(model, task.shape, task.num_classes)


def distill_flops(model: ModelConfig, config: DistillConfig, task: Task) -> float:
    """Operations of a distillation: students, then the images' rounds."""
    drawn = _drawn(config, task)
    students = math.ceil(config.rounds / config.refresh_every) * config.student_epochs * drawn * _TRAIN
    pulls = config.rounds * drawn * (config.checkpoints * _PULL + _FORWARD + _PULL)
    return (students + pulls) * multiply_adds(model, task.shape, task.num_classes)


def eval_flops(model: ModelConfig, config: EvalConfig, images: int, task: Task) -> float:
    """Operations of the networks that share compiled code: one architecture, one kind of labels."""
    networks = config.repeats * 2
    per_network = config.epochs * images * _TRAIN + task.test * _FORWARD
    return networks * per_network * multiply_adds(model, task.shape, task.num_classes)


def step_flops(model: ModelConfig, batch: int, task: Task) -> float:
    """Operations of one training step on a batch."""
    return batch * _TRAIN * multiply_adds(model, task.shape, task.num_classes)


def _drawn(config: DistillConfig, task: Task) -> int:
    total = config.ipc * task.num_classes
    return min(config.batch or total, total)


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


def memory(recipe: Recipe, task: Task, runtime: Runtime, precision: str) -> int:
    """Bytes at the peak of a distillation: the process, the images with momentum, the largest pass, ZCA's matrices."""
    drawn = _drawn(recipe.distill, task)
    segment = segment_length(min(max(recipe.distill.student_batch, 1), drawn), runtime.segment)
    pull = segment_length(drawn, runtime.segment)
    pixels = math.prod(task.shape)
    passes = max(segment, pull) * activation_bytes(recipe.model, task.shape, precision)
    images = recipe.distill.ipc * task.num_classes * pixels * 4 * 2 + drawn * pixels * 4 * 4
    whitening = 3 * pixels**2 * 4 if recipe.data.preprocessing == "zca" else 0
    base = 0 if runtime.device.type == "cuda" else peak_memory(runtime.device)
    compiler = 250e6 if runtime.compile and runtime.device.type == "cpu" else 0
    return int(base + compiler + passes + images + whitening)


def precision_of(recipe: Recipe, task: Task, device: torch.device) -> str:
    """The precision that a recipe's networks run at on a device."""
    return choose_precision(recipe.precision, device, multiply_adds(recipe.model, task.shape, task.num_classes))
