"""How does peak memory follow the segment, and does it follow the number of images?

First ImageNet-1K's shape at several segments, then CIFAR-10's at IPC 10 and 500. Each measurement is a process of its
own: on the CPU the peak is the process's (torch and the compiler included), on CUDA the allocator's.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from chart import chart
from children import Channel, Worker
from common import Table, gigabytes, median, numbers, options, parse, report
from subjects import Setting, serve_engine

from apmctl_core.machine.segment import segment_length

PUBLISHED = {500: "13.3", 250: "7", 100: "6.5"}  # GB on an A100, IPC 50 (METHOD)


def run(args: Namespace, values: dict[str, Any], segment: int) -> dict[str, Any]:
    """Peak and seconds of a process that runs a few cycles; the first one, which compiles, is not timed."""
    shared = {"device": args.device, "precision": args.precision, "compile": not args.no_compile}
    with Worker(__file__, {"setting": values, "segment": segment, **shared}) as worker:
        first = worker.seconds()
        cycles = [worker.go() for _ in range(args.repeats)]
        notes = worker.notes
    peak = cycles[-1]["peak"]
    seconds = median([c["seconds"] for c in cycles])
    found = {"segment": segment, "peak": peak, "seconds": seconds, "first": first, "notes": notes}
    print(f"segment {segment}: {gigabytes(peak)} GB, {seconds:.1f} s", flush=True)
    return found


def base_bytes(args: Namespace) -> int:
    """The peak of a process that does next to nothing: torch, the engine, the compiler at work on a tiny network."""
    tiny = setting_of(args, "convnet1", 2, 8, 2, ipc=1, batch=0)
    shared = {"device": args.device, "precision": args.precision, "compile": not args.no_compile}
    with Worker(__file__, {"setting": tiny, "segment": 0, **shared}) as worker:
        return int(worker.go()["peak"])


def predicted(args: Namespace, values: dict[str, Any], base: int, segment: int) -> int:
    """The peak that `--segment auto` would expect in the place of an idle process that peaks at `base`."""
    setting = Setting.of(values)
    cost = setting.cost(args.precision)
    return int(base + cost.fixed_bytes + segment_length(cost.images, segment) * cost.image_bytes)


def setting_of(
    args: Namespace, arch: str, width: int, side: int, classes: int, *, ipc: int, batch: int
) -> dict[str, Any]:
    """A distillation from noise with few epochs: memory does not depend on their number."""
    return {
        "shape": (3, side, side),
        "classes": classes,
        "arch": arch,
        "width": width,
        "ipc": ipc,
        "rounds": 100_000,
        "student": {"epochs": args.epochs},
        "checkpoints": args.checkpoints,
        "refresh_every": 1,
        "batch": batch,
        "image_lr": 0.02,
        "init": "noise",
    }


def by_segment(args: Namespace) -> tuple[Table, list[str], str]:
    """The table and the chart of memory and time by segment, at ImageNet-1K's shape."""
    values = setting_of(args, args.arch, args.width, args.side, args.classes, ipc=args.ipc, batch=args.batch)
    base = base_bytes(args)
    images = Setting.of(values).image_bytes
    found = [run(args, values, segment) for segment in args.segments]
    rows = []
    for f in found:
        found_bytes = (f["peak"], predicted(args, values, base, f["segment"]), f["peak"] - base)
        seconds = (f"{f['seconds']:.1f}", f"{f['first']:.1f}")
        rows.append((str(f["segment"]), *map(gigabytes, found_bytes), PUBLISHED.get(f["segment"], ""), *seconds))
    title = f"{args.arch} of width {args.width}, {args.side}x{args.side}, {args.classes} classes, B {args.batch}"
    header = (
        "segment",
        "peak GB",
        "predicted",
        "beyond an idle process",
        "published (GPU)",
        "s a cycle",
        "s the first",
    )
    notes = [
        f"{args.precision}, IPC {args.ipc}: the images take {gigabytes(images)} GB and their momentum as much, counted "
        f"in the peak. E {args.epochs}, Kc {args.checkpoints}, G 1; seconds by {args.repeats} cycle(s). "
        f"A process that has trained a tiny network, compiler included, peaks at {gigabytes(base)} GB.",
        *{note for f in found for note in f["notes"]},
    ]
    drawn = chart(
        title,
        "segment",
        "GB at the peak; seconds a cycle / 10",
        [str(f["segment"]) for f in found],
        {"memory, GB": [f["peak"] / 1e9 for f in found], "time, 10 s": [f["seconds"] / 10 for f in found]},
    )
    return Table(title, header, rows), notes, drawn


def by_ipc(args: Namespace) -> tuple[Table, list[str]]:
    """Peak memory at a small and a large IPC beside what the images take; B is the same."""
    rows, peaks, sizes, notes = [], [], [], []
    for ipc in args.ipcs:
        values = setting_of(args, args.ipc_arch, args.width, args.ipc_side, 10, ipc=ipc, batch=args.ipc_batch)
        found = run(args, values, args.ipc_segment)
        peaks.append(found["peak"])
        sizes.append(Setting.of(values).image_bytes)
        notes += found["notes"]
        rows.append((str(ipc), gigabytes(peaks[-1]), gigabytes(sizes[-1]), f"{found['seconds']:.2f}"))
    allowed = peaks[0] + sizes[-1] - sizes[0]
    text = (
        f"IPC {args.ipcs[-1]} takes {peaks[-1] / allowed - 1:+.1%} against IPC {args.ipcs[0]} with the bytes of the "
        "images that it has more (their momentum not added); at most +10% is asked for."
    )
    title = f"{args.ipc_arch} of width {args.width}, {args.ipc_side}x{args.ipc_side}, 10 classes, B {args.ipc_batch}"
    header = ("IPC", "peak GB", "images alone, GB", "s a cycle")
    return Table(f"{title}, segments of {args.ipc_segment}", header, rows), [text, *notes]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--segments", type=numbers, default=(500, 250, 100, 25, 5, 1), help="500,250,100,25,5,1")
    parser.add_argument("--arch", default="convnet4", help="network [%(default)s]")
    parser.add_argument("--width", type=int, default=128, help="width of the networks [%(default)s]")
    parser.add_argument("--side", type=int, default=64, help="side of the images in pixels [%(default)s]")
    parser.add_argument("--classes", type=int, default=1000, help="classes [%(default)s]")
    parser.add_argument("--ipc", type=int, default=1, help="images a class [%(default)s]")
    parser.add_argument("--batch", type=int, default=500, help="B [%(default)s]")
    parser.add_argument("--epochs", type=int, default=2, help="E [%(default)s]")
    parser.add_argument("--checkpoints", type=int, default=2, help="Kc [%(default)s]")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"), help="[%(default)s]")
    parser.add_argument("--ipcs", type=numbers, default=(10, 500), help="IPCs that are compared [10,500]")
    parser.add_argument("--ipc-arch", default="convnet3", help="network of that comparison [%(default)s]")
    parser.add_argument("--ipc-side", type=int, default=32, help="its images' side [%(default)s]")
    parser.add_argument("--ipc-batch", type=int, default=100, help="its B [%(default)s]")
    parser.add_argument("--ipc-segment", type=int, default=50, help="its segment [%(default)s]")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    quick = {"segments": (2,), "arch": "convnet2", "width": 4, "side": 8, "classes": 4, "ipc": 2, "batch": 4}
    small = {"ipcs": (2,), "ipc_arch": "convnet2", "ipc_side": 8, "ipc_batch": 10, "ipc_segment": 5}
    args = parse(parser, argv, {**quick, **small, "no_compile": True, "precision": "fp32"})
    if args.worker:
        values = json.loads(args.worker)
        serve_engine(Channel(), Setting.of(values["setting"]), values)
        return
    segments, notes, drawn = by_segment(args)
    ipcs, more = by_ipc(args)
    path = report(args, "memory", "How does peak memory follow the segment?", [segments, ipcs], [*notes, *more])
    if path is not None:
        picture = path.with_suffix(".svg")
        picture.write_text(drawn, encoding="utf-8")
        _embed(path, picture)


def _embed(page: Path, picture: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(f"{text}\n![peak memory and time by segment]({picture.name})\n", encoding="utf-8")


if __name__ == "__main__":
    main()
