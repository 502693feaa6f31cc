"""How much faster than plain PyTorch is a refresh cycle of CIFAR-10 at IPC 10, and at how much memory?

A cycle is E epochs of a student, then G rounds on the images. Each side runs in a process of its own and takes its
turns; the peak of memory is that of the process, torch and compiler included.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from argparse import Namespace
from typing import Any

from children import Channel, Worker
from common import Table, gigabytes, in_turns, median, numbers, options, parse, report, spread, words
from plain import Plain
from subjects import Setting, dataset_of, serve_engine, untrained

from apmctl_core.seeding import Stream

SIDES = {
    "plain": {"plain": True},
    "plain-whole": {"plain": True, "segment": 0},
    "eager": {"precision": "fp32", "compile": False},
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
}
NAMES = {
    "plain": "plain: eager fp32, rounds in the same segments",
    "plain-whole": "plain: eager fp32, rounds on whole batches",
    "eager": "engine, fp32, not compiled",
    "fp32": "engine, fp32, compiled",
    "bf16": "engine, bf16, compiled",
}
AIMS = {(128, "bf16"): "2.5", (128, "fp32"): "1.5", (32, "bf16"): "2"}


def serve(values: dict[str, Any]) -> None:
    """The child: one side, a cycle for each request."""
    channel = Channel()
    setting = Setting.of(values["setting"])
    if not values.get("plain"):
        serve_engine(channel, setting, values)
        return
    dataset = dataset_of(setting, values.get("data"), values.get("cache"))
    run = Plain(dataset, untrained(setting), setting.config, Stream(0), values["segment"])

    def cycle() -> dict[str, Any]:
        run.cycle()
        return {}

    channel.serve(cycle)


def setting_of(args: Namespace, width: int) -> dict[str, Any]:
    """The published setting of CIFAR-10 at IPC 10, save E and the teachers, which are untrained."""
    return {
        "shape": (3, args.side, args.side),
        "classes": 10,
        "arch": args.arch,
        "width": width,
        "ipc": args.ipc,
        "rounds": 100_000,
        "student": {"epochs": args.epochs},
        "checkpoints": args.checkpoints,
        "refresh_every": args.rounds,
        "image_lr": 0.02,
        "init": "real" if args.data else "noise",
    }


def measure(args: Namespace, width: int, cache: str) -> tuple[Table, list[str]]:
    """The sides in turns at one width, each warmed up by a cycle that is not counted."""
    base = {"setting": setting_of(args, width), "segment": args.segment, "compile": not args.no_compile}
    base |= {"device": args.device, "data": args.data, "cache": cache}
    with contextlib.ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(__file__, {**base, **SIDES[side]})) for side in args.sides}
        warm = {side: worker.seconds() for side, worker in workers.items()}
        seconds = in_turns({side: worker.seconds for side, worker in workers.items()}, args.repeats - 1)
        last = {side: worker.go() for side, worker in workers.items()}
        notes = [f"width {width}, {side}: {note}" for side, worker in workers.items() for note in worker.notes]
    rows = []
    for side in args.sides:
        seconds[side].append(last[side]["seconds"])
        ratio = median(seconds[args.sides[0]]) / median(seconds[side])
        aim = AIMS.get((width, side), "") if args.sides[0] == "plain" else ""
        peak = gigabytes(last[side]["peak"])
        rows.append((NAMES[side], spread(seconds[side]), f"{ratio:.2f}", aim, peak, f"{warm[side]:.1f}"))
    header = ("side", "seconds a cycle, median (range)", "ratio", "at least", "peak GB", "first cycle, s")
    return Table(f"{args.arch}, width {width}", header, rows), notes


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--widths", type=numbers, default=(128, 32), help="widths of the network [128,32]")
    parser.add_argument("--sides", type=words, default=("plain", "fp32", "bf16", "plain-whole"), help=", ".join(SIDES))
    parser.add_argument("--arch", default="convnet3", help="network [%(default)s]")
    parser.add_argument("--side", type=int, default=32, help="side of the images in pixels [%(default)s]")
    parser.add_argument("--ipc", type=int, default=10, help="images a class, of ten classes [%(default)s]")
    parser.add_argument("--epochs", type=int, default=50, help="E [%(default)s]")
    parser.add_argument("--checkpoints", type=int, default=5, help="Kc [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="G [%(default)s]")
    parser.add_argument("--segment", type=int, default=50, help="images held at once [%(default)s]")
    parser.add_argument("--data", help="folder of CIFAR-10 as parquet, to start from real images [random pixels]")
    parser.add_argument("--no-compile", action="store_true", help="the engine without torch.compile")
    quick = {"widths": (8,), "arch": "convnet2", "side": 8, "ipc": 2, "epochs": 4, "checkpoints": 2, "repeats": 2}
    args = parse(parser, argv, {**quick, "segment": 10, "no_compile": True, "sides": ("plain", "bf16")})
    if args.worker:
        serve(json.loads(args.worker))
        return
    with tempfile.TemporaryDirectory() as cache:
        # Decoded here, so that decoding is in the peak of no side.
        dataset_of(Setting.of(setting_of(args, args.widths[0])), args.data, cache)
        found = [measure(args, width, cache) for width in args.widths]
    report(
        args,
        "cycle",
        "How fast is a refresh cycle, and at how much memory?",
        [table for table, _ in found],
        [
            f"B {args.ipc * 10}, E {args.epochs}, Kc {args.checkpoints}, G {args.rounds}, segments of {args.segment}. "
            f"{args.repeats} measurements of each side in turns, after one that is not counted (with the compiler's "
            "time, less what its cache on the disk saves). The plain side uses the engine's network (GroupNorm in the "
            "place of the slower InstanceNorm2d) and augmentation, so that it is not slowed down by either.",
            *(note for _, notes in found for note in notes),
        ],
    )


if __name__ == "__main__":
    main()
