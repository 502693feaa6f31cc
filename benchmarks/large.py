"""How much memory does a data set of 200,000 images of 64x64 take, to train a teacher on and to start a set from?

The set is random pixels in the engine's own cache (2.4 GB). A child fits the preprocessing, trains an epoch of a
teacher and initialises a set; its peak of resident memory stands beside that of a child that does the same with a
tiny set. Pages of a memory map count as resident while they are mapped.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from children import Channel, Worker, peak_bytes
from common import Table, gigabytes, options, parse, report

from apmctl_core.config import ApmConfig, ModelConfig, TeacherConfig
from apmctl_core.data import Dataset, cache
from apmctl_core.data.fitting import fit
from apmctl_core.machine.runtime import resolve
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.stages.teachers import train_teachers
from apmctl_core.storage.files import atomic_folder, require_space
from apmctl_core.training.context import Context

PHASES = ("preprocessing fitted", "teacher trained an epoch and tested", "set initialised")
_CHUNK = 2000


def generate(folder: Path, side: int, classes: int, train: int, test: int) -> Path:
    """Write a data set of random pixels into a folder of the cache's layout; memory does not depend on its size."""
    if (folder / "meta.json").exists():
        return folder
    require_space(folder.parent, (train + test) * (3 * side * side + 8))
    with atomic_folder(folder) as temporary:
        entries = dict(_arrays(temporary, side, classes, {"train": train, "test": test}))
        cache.write_meta(temporary, tuple(f"class {k}" for k in range(classes)), entries, {"name": "generated"})
    return folder


def _arrays(folder: Path, side: int, classes: int, counts: Mapping[str, int]) -> Iterator[tuple[str, cache.Entry]]:
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        with cache.ArrayWriter(folder / f"{split}_images.npy", (count, 3, side, side), "uint8") as writer:
            for start in range(0, count, _CHUNK):
                size = min(_CHUNK, count - start)
                writer.append(np.frombuffer(rng.bytes(size * 3 * side * side), np.uint8).reshape(size, 3, side, side))
            yield f"{split}_images", writer.finish()
        with cache.ArrayWriter(folder / f"{split}_labels.npy", (count,), "int64") as writer:
            writer.append(np.arange(count) % classes)
            yield f"{split}_labels", writer.finish()


def serve(values: dict[str, Any]) -> None:
    """The child: the phases one after the other, one for each request."""
    channel = Channel()
    if (dataset := cache.read(Path(values["folder"]), "generated")) is None:
        raise RuntimeError(f"{values['folder']} is not a data set of the cache")
    phases = _phases(dataset, values)
    channel.serve(lambda: next(phases)())


def _phases(dataset: Dataset, values: dict[str, Any]) -> Iterator[Callable[[], dict[str, Any]]]:
    runtime = resolve(values["device"], values["compile"])
    context = Context(stream=Stream(0), runtime=runtime, precision=values["precision"])
    model = ModelConfig(arch=values["arch"], width=values["width"])
    made: dict[str, Any] = {}

    def fitted() -> dict[str, Any]:
        made["preprocessing"] = fit(dataset, "standard", Path(values["folder"]))
        return {}

    def taught() -> dict[str, Any]:
        config = TeacherConfig(count=1, epochs=1)
        made["pool"], _ = train_teachers(dataset, made["preprocessing"], model, config, context)
        return {}

    def begun() -> dict[str, Any]:
        config = ApmConfig(ipc=values["ipc"], rounds=0, image_lr=1.0)
        images = distill(dataset, made["pool"], config, context).images
        return {"images": images.numel() * 4, "peak": peak_bytes()}

    yield from (fitted, taught, begun)


def measure(args: Namespace, folder: Path) -> list[dict[str, Any]]:
    """Seconds and peak memory after each phase, in a child that works on the data in `folder`."""
    values = {"folder": str(folder), "device": args.device, "precision": args.precision, "ipc": args.ipc}
    values |= {"arch": args.arch, "width": args.width, "compile": not args.no_compile}
    with Worker(__file__, values) as worker:
        return [worker.go() for _ in PHASES]


def tables(args: Namespace, work: Path) -> tuple[Table, str]:
    """The large set beside a tiny one, phase by phase."""
    large = generate(work / f"large-{args.count}-{args.side}", args.side, args.classes, args.count, args.test)
    few = args.classes * max(args.ipc, 2)
    tiny = generate(work / f"tiny-{few}-{args.side}", args.side, args.classes, few, args.classes)
    tiny_phases, large_phases = measure(args, tiny), measure(args, large)
    rows = [
        (name, f"{big['seconds']:.1f}", gigabytes(big["peak"]), gigabytes(small["peak"]))
        for name, big, small in zip(PHASES, large_phases, tiny_phases, strict=True)
    ]
    beyond = large_phases[-1]["peak"] - tiny_phases[-1]["peak"]
    size = sum(path.stat().st_size for path in large.glob("*.npy"))
    title = f"{args.count:,} images of {args.side}x{args.side}, {gigabytes(size)} GB, {args.classes} classes"
    header = ("done", "seconds", "peak GB so far", f"the same with {few:,} images")
    note = (
        f"**{gigabytes(beyond)} GB beyond a process that does the same with a tiny set**; less than 1 GB is asked for. "
        f"{args.arch} of width {args.width}, {args.precision}; the set that is initialised has IPC {args.ipc}: "
        f"{gigabytes(large_phases[-1]['images'])} GB of images, the same in both processes."
    )
    return Table(title, header, rows), note


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="training images [%(default)s]")
    parser.add_argument("--test", type=int, default=2_000, help="test images [%(default)s]")
    parser.add_argument("--side", type=int, default=64, help="side of the images in pixels [%(default)s]")
    parser.add_argument("--classes", type=int, default=200, help="classes [%(default)s]")
    parser.add_argument("--ipc", type=int, default=10, help="images a class of the initialised set [%(default)s]")
    parser.add_argument("--arch", default="convnet4", help="network [%(default)s]")
    parser.add_argument("--width", type=int, default=8, help="width of the network [%(default)s]")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="[%(default)s]")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--keep", type=Path, help="folder in which the generated data stays [it is removed]")
    quick = {"count": 300, "test": 20, "side": 8, "classes": 4, "ipc": 2, "arch": "convnet1", "width": 2}
    args = parse(parser, argv, {**quick, "no_compile": True})
    if args.worker:
        serve(json.loads(args.worker))
        return
    work = args.keep or Path(tempfile.mkdtemp(prefix="apmctl-large-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        table, note = tables(args, work)
    finally:
        if not args.keep:
            shutil.rmtree(work)
    report(args, "large", "How much memory does a data set larger than memory take?", [table], [note])


if __name__ == "__main__":
    main()
