"""How fast is the published CIFAR-10 IPC 50 recipe on a GPU: a student's step, a cycle, all rounds, the teachers?

Where there is no CUDA device the script runs in small on the CPU, and its page says that the GPU run is outstanding.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from common import Table, gigabytes, median, options, parse, report, spread
from subjects import noise

from apmctl_core.config import Recipe, TrainConfig
from apmctl_core.config.presets import preset
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.events import Event, Note, Progress
from apmctl_core.machine import memory
from apmctl_core.machine.device import choose_precision
from apmctl_core.machine.runtime import Runtime, resolve
from apmctl_core.methods import METHODS
from apmctl_core.models import build, size_of
from apmctl_core.seeding import Stream
from apmctl_core.stages import teachers
from apmctl_core.stages.distill import distill
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure
from apmctl_core.values import Task, TeacherPool

SHAPE, CLASSES = (3, 32, 32), 10
AIM_MINUTES = 15


@dataclass(frozen=True)
class Measured:
    """Seconds of each part; operations a second that the device reaches on large products; bytes at the peak."""

    step: list[float]
    cycle: list[float]
    epoch: list[float]
    matmul: float
    peak: int


class Ticks:
    """A sink of events that notes when each step of progress was made, and what was said."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.at.append(time.perf_counter())
        elif isinstance(event, Note):
            self.notes.append(event.text)

    def seconds(self) -> list[float]:
        """Between one step of progress and the next; what comes before the first, compilation, is left out."""
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]


def small(recipe: Recipe) -> Recipe:
    """The recipe cut down to what a CPU does in seconds."""
    return replace(
        recipe,
        model=replace(recipe.model, width=8),
        teachers=replace(recipe.teachers, batch=64),
        distill=replace(recipe.distill, ipc=2, student=TrainConfig(epochs=4), checkpoints=2),
    )


def whitening(pixels: int) -> Preprocessing:
    """ZCA that changes nothing but costs what it costs."""
    tensors = {"mean": torch.zeros(pixels), "matrix": torch.eye(pixels)}
    return Preprocessing("zca", tensors)


def cycle_seconds(recipe: Recipe, runtime: Runtime, precision: str, count: int) -> tuple[list[float], list[str]]:
    """Refresh cycles from noise, the first one not counted."""
    rounds = (count + 1) * recipe.distill.refresh_every
    config = replace(recipe.distill, rounds=rounds, init="noise", image_lr=0.1)
    state = build(recipe.model, SHAPE, CLASSES, 1).state_dict()
    pool = TeacherPool(
        model=recipe.model, shape=SHAPE, num_classes=CLASSES, states=[state], preprocessing=whitening(math.prod(SHAPE))
    )
    ticks = Ticks()
    context = Context(stream=Stream(0), runtime=runtime, precision=precision, emit=ticks)
    distill(noise(SHAPE, CLASSES, train=1), pool, config, context)
    return ticks.seconds(), ticks.notes


def epoch_seconds(
    recipe: Recipe, runtime: Runtime, precision: str, count: int, images: int
) -> tuple[list[float], list[str]]:
    """Epochs of a teacher on random pixels, the first one not counted."""
    data = noise(SHAPE, CLASSES, train=images // CLASSES)
    config = replace(recipe.teachers, count=1, epochs=count + 1)
    ticks = Ticks()
    context = Context(stream=Stream(0), runtime=runtime, precision=precision, emit=ticks)
    teachers.train_teachers(data, whitening(math.prod(SHAPE)), recipe.model, config, context)
    return ticks.seconds()[:count], ticks.notes


def step_seconds(recipe: Recipe, runtime: Runtime, precision: str, count: int) -> list[float]:
    """Seconds of a student's step, by whole trainings of a student."""
    c = recipe.distill
    total = c.ipc * CLASSES
    network = build(recipe.model, SHAPE, CLASSES)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    context = Context(stream=Stream(0), runtime=runtime, precision=precision)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context)
    source = TensorSource(
        torch.randn(total, *SHAPE, device=runtime.device), torch.randn(total, CLASSES, device=runtime.device)
    )
    steps = c.student.epochs * math.ceil(total / c.student.batch)

    def train() -> None:
        trainer.fit(initial, source, c.student, context.stream, context.segment)

    return [seconds / steps for seconds in timed(train, count, runtime.device)]


def matmul_rate(device: torch.device, precision: str, side: int) -> float:
    """Operations a second of a large product of matrices in the networks' precision: what is counted as the peak."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(lambda: torch.mm(a, b), 10, device)
    return 2 * side**3 / min(seconds)


def timed(work: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Seconds of `work`, `count` times after one that is not counted."""
    found = []
    for _ in range(count + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return found[1:]


def measure(args: Namespace, recipe: Recipe, runtime: Runtime, precision: str) -> tuple[Measured, list[str]]:
    """All parts, one after the other."""
    on_gpu = runtime.device.type == "cuda"
    cycles, notes = cycle_seconds(recipe, runtime, precision, args.repeats)
    epochs, more = epoch_seconds(recipe, runtime, precision, min(args.repeats, 3), 50_000 if on_gpu else 200)
    steps = step_seconds(recipe, runtime, precision, args.repeats)
    rate = matmul_rate(runtime.device, precision, 8192 if on_gpu else 256)
    return Measured(steps, cycles, epochs, rate, memory.peak(runtime.device)), [*notes, *more]


def tables(recipe: Recipe, found: Measured, images: int) -> list[Table]:
    """What was measured, and what follows for the whole recipe."""
    c, t = recipe.distill, recipe.teachers
    task = Task(SHAPE, CLASSES, "zca", "bf16", train=images)
    size = size_of(recipe.model, SHAPE, CLASSES)
    batch = min(c.student.batch, c.ipc * CLASSES)
    per_image = 6 * size.multiply_adds
    total = c.ipc * CLASSES
    work = {
        "a student's step": (found.step, per_image * total / math.ceil(total / batch)),
        f"a refresh cycle (E {c.student.epochs}, Kc {c.checkpoints}, G {c.refresh_every})": (
            found.cycle,
            METHODS[c.method].cost(replace(c, rounds=c.refresh_every), task, size).flops,
        ),
        f"a teacher's epoch ({images:,} images)": (
            found.epoch,
            teachers.cost(replace(t, count=1, epochs=1), task, size).flops,
        ),
    }
    rows = [
        (name, spread(seconds, 1e3), f"{flops / median(seconds) / 1e12:.2f}", _share(flops, seconds, found.matmul))
        for name, (seconds, flops) in work.items()
    ]
    rounds = math.ceil(c.rounds / c.refresh_every) * median(found.cycle)
    epochs = t.count * t.epochs * median(found.epoch)
    whole = [
        (f"{c.rounds:,} rounds", f"{rounds / 60:.1f}"),
        (f"{t.count} teachers, {t.epochs} epochs", f"{epochs / 60:.1f}"),
        ("both", f"{(rounds + epochs) / 60:.1f}"),
    ]
    header = ("part", "ms, median (range)", "TFLOP/s", f"of {found.matmul / 1e12:.1f} TFLOP/s (matrix product)")
    return [Table("Measured", header, rows), Table("Projected", ("part", "minutes"), whole)]


def _share(flops: float, seconds: list[float], peak: float) -> str:
    return f"{flops / median(seconds) / peak:.1%}"


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.set_defaults(device="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--segment", type=int, default=0, help="images held at once, 0: all [%(default)s]")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="[%(default)s]")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    args = parse(parser, argv, {"repeats": 2, "no_compile": True})
    on_gpu = args.device.startswith("cuda")
    recipe = preset("cifar10-ipc50")
    recipe = recipe if on_gpu and not args.quick else small(recipe)
    runtime = resolve(args.device, not args.no_compile, args.segment)
    precision = choose_precision(args.precision, runtime.device, size_of(recipe.model, SHAPE, CLASSES).multiply_adds)
    found, notes = measure(args, recipe, runtime, precision)
    said = [
        f"{precision}; peak memory {gigabytes(found.peak)} GB. Projected time below {AIM_MINUTES} minutes is aimed at."
    ]
    if not on_gpu:
        said.insert(
            0,
            "**The run on a GPU is outstanding.** No CUDA device was at hand: this is the script's test on the CPU, "
            f"with width {recipe.model.width}, IPC {recipe.distill.ipc} and E {recipe.distill.student.epochs}; its "
            "figures say nothing about a GPU, nor about the recipe.",
        )
    images = 50_000 if on_gpu else 200
    report(
        args,
        "gpu",
        "How fast is the published CIFAR-10 IPC 50 recipe on a GPU?",
        tables(recipe, found, images),
        [*said, *notes],
    )


if __name__ == "__main__":
    main()
