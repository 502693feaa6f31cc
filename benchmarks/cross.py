"""Is a set better than real images: on other networks than its own, with soft and hard labels?

Beside random real images stand coresets: real images that were chosen by the teachers. What is there already is reused,
so a killed run goes on.
"""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accuracy import small
from common import Table, options, parse, report

from apmctl_core.artifacts import Store
from apmctl_core.artifacts.kinds.reports import ReportRow, shown
from apmctl_core.config.presets import preset
from apmctl_core.jobs import Session, distill_set, evaluate_set
from apmctl_core.machine.runtime import resolve

_LISTS = ("arch", "labels", "baseline")
_DEFAULT = ("digits-ipc10: baseline=all", "cifar10-laptop-ipc10: baseline=all")
_QUICK = "digits-ipc1: arch=convnet1,convnet2 baseline=herding epochs=1 repeats=2"


def asked(text: str) -> tuple[str, dict[str, Any]]:
    """A preset and the changes to its evaluation: `digits-ipc10: arch=vgg11,vit baseline=all epochs=100`."""
    name, _, settings = text.partition(":")
    pairs = [setting.split("=", 1) for setting in settings.split()]
    return name, {key: value.split(",") if key in _LISTS else json.loads(value) for key, value in pairs}


def lines(row: ReportRow) -> Iterator[tuple[str, ...]]:
    """A row of a report: the set, then each kind of real images with what the set is above it."""
    p = row.protocol
    protocol = f"{p['epochs']} epochs, batch {p['batch']}, {p['networks']} networks"
    yield row.arch, row.labels, "**the set**", shown(row.accuracies), "", protocol
    for name in row.baselines:
        yield "", "", name, *row.beside(name), ""


def notes_on(name: str, rows: list[ReportRow]) -> Iterator[str]:
    """What holds of all networks, and what does not: against random images, and against the best coreset."""
    for row in rows:
        coresets = {kind: row.beside(kind)[1] for kind in row.coresets}
        best = max(coresets, key=lambda kind: sum(row.coresets[kind]), default=None)
        said = [f"{row.beside('random')[1]} above random images"] if row.random_accuracies else []
        said += [f"{coresets[best]} above the best coreset ({best})"] if best else []
        bounds = row.difference("random")
        if bounds and bounds[0] <= 0:
            said.append("**no better than random images, as far as these networks tell**")
        yield f"{name}, {row.arch}, {row.labels} labels: {'; '.join(said)}."


def run(args: Namespace, store: Store) -> dict[str, list[ReportRow]]:
    """The rows of all evaluations, by preset."""
    runtime = resolve(args.device, False if args.no_compile else None, None)
    found: dict[str, list[ReportRow]] = {}
    for name, changes in map(asked, args.eval):
        data = None if name.startswith("digits") else args.data
        session = Session(store=store, runtime=runtime, data_path=data)
        distilled = distill_set(session, small(preset(name)) if args.quick else preset(name)).artifact
        rows = evaluate_set(session, distilled.ref, changes).metrics["results"]
        found.setdefault(name, []).extend(rows)
        print(*notes_on(name, rows), sep="\n", flush=True)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--eval", action="append", help="a preset and settings of `eval`: digits-ipc10: arch=vit")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 [from the Hub]")
    parser.add_argument("--store", type=Path, help="store to keep, so that a killed run goes on [it is removed]")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    args = parse(parser, argv, {"no_compile": True})
    args.eval = args.eval or ([_QUICK] if args.quick else _DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        found = run(args, Store(args.store or Path(folder)))
    header = ("network", "labels", "images", "accuracy %", "the set above it", "protocol")
    tables = [Table(name, header, [line for row in rows for line in lines(row)]) for name, rows in found.items()]
    notes = [line for name, rows in found.items() for line in notes_on(name, rows)]
    notes.append("In brackets: 95 per cent intervals over networks (Student's t; Welch's of a difference).")
    question = "Is the set better than real images, on any network and with either kind of labels?"
    report(args, "cross", question, tables, ["\n".join(f"- {note}" for note in notes)])


if __name__ == "__main__":
    main()
