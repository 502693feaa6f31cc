"""How near is a student's step to the bare compiled network's forward and backward on the same batch?

A step is the augmentation, forward, loss, backward and optimiser, by the engine's own training loop. The share is
bare time over the step's time; a profile says where the rest goes.
"""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Callable

import torch
from common import Table, in_turns, median, numbers, options, parse, report, words

from apmctl_core.config import ModelConfig, TrainConfig
from apmctl_core.events import Emit, Event, Note
from apmctl_core.machine.device import autocast
from apmctl_core.machine.runtime import Runtime, resolve
from apmctl_core.models import build
from apmctl_core.seeding import Stream
from apmctl_core.training.augment import DSA
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure

CLASSES = 10
Step = Callable[[int], None]  # takes so many steps


class Batch:
    """One batch of noise with soft labels, and the network that trains on it."""

    def __init__(self, args: Namespace, width: int, size: int, device: torch.device, emit: Emit) -> None:
        self.model = ModelConfig(arch=args.arch, width=width)
        self.shape = (3, args.side, args.side)
        self.size = size
        self.emit = emit
        self.images = torch.randn(size, *self.shape, device=device)
        self.targets = torch.randn(size, CLASSES, device=device)

    def network(self) -> torch.nn.Module:
        """A fresh network; the same weights each time."""
        return build(self.model, self.shape, CLASSES)


def bare(batch: Batch, runtime: Runtime, precision: str) -> Step:
    """Forward and backward of the network under torch.compile, and nothing else."""
    network = batch.network().to(runtime.device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        with autocast(runtime.device, precision):
            logits: torch.Tensor = network(x)
        return logits

    run = torch.compile(forward, dynamic=False) if runtime.compile else forward

    def steps(count: int) -> None:
        for _ in range(count):
            for p in network.parameters():
                p.grad = None
            logits = run(batch.images)
            logits.backward(torch.ones_like(logits))

    return steps


def engine(batch: Batch, runtime: Runtime, precision: str, *, augmented: bool = True) -> Step:
    """A student's training: an epoch is one batch, so as many epochs as steps."""
    network = batch.network()
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    context = Context(stream=Stream(0), runtime=runtime, precision=precision, emit=batch.emit)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS, augmentation=DSA if augmented else None), context)
    source = TensorSource(batch.images, batch.targets)

    def steps(count: int) -> None:
        config = TrainConfig(epochs=count, lr=0.02, momentum=0.9, weight_decay=5e-4, batch=batch.size)
        trainer.fit(initial, source, config, context.stream, context.segment)

    return steps


def optimiser(batch: Batch, runtime: Runtime) -> Step:
    """The optimiser's steps alone, as the engine sets it up."""
    network = batch.network().to(runtime.device)
    sgd = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, fused=True)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)

    def steps(count: int) -> None:
        for _ in range(count):
            sgd.step()

    return steps


def timed(step: Step, count: int, device: torch.device) -> Callable[[], float]:
    """A measurement: the seconds of a step, taken over `count` of them."""

    def measure() -> float:
        _wait(device)
        began = time.perf_counter()
        step(count)
        _wait(device)
        return (time.perf_counter() - began) / count

    return measure


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(args: Namespace, batch: Batch, runtime: Runtime, precision: str) -> tuple[str, ...]:
    """One row: the engine's step and the bare one in turns, and what the parts between them take."""
    sides = {
        "bare": bare(batch, runtime, precision),
        "step": engine(batch, runtime, precision),
        "without": engine(batch, runtime, precision, augmented=False),
        "optimiser": optimiser(batch, runtime),
    }
    for step in sides.values():
        step(2)  # compiles
    measures = {name: timed(step, args.steps, runtime.device) for name, step in sides.items()}
    ms = {name: median(values) * 1e3 for name, values in in_turns(measures, args.repeats).items()}
    augmentation = ms["step"] - ms["without"]
    rest = ms["without"] - ms["bare"] - ms["optimiser"]
    share = f"{ms['bare'] / ms['step']:.2f}"
    parts = tuple(f"{v:.2f}" for v in (ms["bare"], ms["step"], augmentation, ms["optimiser"], rest))
    return (str(batch.model.width), str(batch.size), precision, *parts, share)


def profile(args: Namespace, batch: Batch, runtime: Runtime, precision: str) -> Table:
    """Where the time of the engine's step goes, by operation: those that take the most themselves."""
    step = engine(batch, runtime, precision)
    step(2)
    on_gpu = runtime.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * on_gpu
    with torch.profiler.profile(activities=activities) as found:
        step(args.steps)
        _wait(runtime.device)
    events = [(e, e.self_device_time_total if on_gpu else e.self_cpu_time_total) for e in found.key_averages()]
    total = sum(t for _, t in events)
    events.sort(key=lambda pair: -pair[1])
    rows = [
        (_short(e.key), f"{t / args.steps / 1e3:.3f}", f"{t / total:.1%}", f"{e.count / args.steps:.1f}")
        for e, t in events[:14]
    ]
    title = f"Profile of a step: width {batch.model.width}, batch {batch.size}, {precision}"
    return Table(title, ("operation", "ms itself", "share", "calls a step"), rows)


def _short(name: str) -> str:
    """A name that fits into a table; of the digest in the name of compiled code, as much as tells two apart."""
    name = re.sub(r"#* *Call CompiledFxGraph (\w{8})\w* *#*", r"compiled graph \1", name)
    return name.replace("|", "/")[:60]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, repeats=7)
    parser.add_argument("--widths", type=numbers, default=(128, 32), help="widths of the network [128,32]")
    parser.add_argument("--batches", type=numbers, default=(100, 256), help="images a step [100,256]")
    parser.add_argument("--precisions", type=words, default=("bf16", "fp32"), help="bf16,fp32")
    parser.add_argument("--steps", type=int, default=20, help="steps a measurement [%(default)s]")
    parser.add_argument("--arch", default="convnet3", help="network [%(default)s]")
    parser.add_argument("--side", type=int, default=32, help="side of the images in pixels [%(default)s]")
    parser.add_argument("--no-compile", action="store_true", help="both sides without torch.compile")
    quick = {"widths": (8,), "batches": (10,), "steps": 2, "repeats": 2, "arch": "convnet2", "side": 8}
    args = parse(parser, argv, {**quick, "precisions": ("fp32",), "no_compile": True})
    notes: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    runtime = resolve(args.device, not args.no_compile)
    rows, profiles = [], []
    for width in args.widths:
        for size in args.batches:
            for precision in args.precisions:
                batch = Batch(args, width, size, runtime.device, heard)
                rows.append(measure(args, batch, runtime, precision))
                profiles.append(profile(args, batch, runtime, precision))
                print(" ".join(rows[-1]), flush=True)
                torch.compiler.reset()
    parts = ("bare, ms", "step, ms", "of it augmentation", "optimiser", "loss and the rest", "share")
    table = Table(f"{args.arch}, {args.side}x{args.side} pixels", ("width", "batch", "precision", *parts), rows)
    explained = (
        "The share is the bare time over the step's; 0.85 is asked for. Augmentation: the step less one without it. "
        "The optimiser is timed alone. The rest: what is left, with the loss, drawing and gathering. Medians of "
        f"{args.repeats} measurements in turns, {args.steps} steps each. A profile counts only what each operation "
        "takes itself; compiled code is one operation, with the convolutions that it calls listed apart."
    )
    report(args, "step", "How near is a student's step to the bare network?", [table, *profiles], [explained, *notes])


if __name__ == "__main__":
    main()
