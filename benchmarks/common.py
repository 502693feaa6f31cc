"""What the benchmarks share: options, timings taken in turns, medians, tables and dated result pages."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Table:
    """A table of texts with what it is about."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """The table as Markdown; numbers stay readable without it being rendered."""
        cells = [self.header, *self.rows]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.header))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
        return "\n".join([f"### {self.title}", "", *lines])


# --- options -----------------------------------------------------------------------------------------------------


def options(doc: str | None, *, repeats: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark has; its description is the first line of the script's docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small settings that show only that the script works")
    parser.add_argument("--repeats", type=int, default=repeats, help="measurements of each side [%(default)s]")
    parser.add_argument("--device", default="cpu", help="device to measure on [%(default)s]")
    parser.add_argument("--results", type=Path, default=None, help="folder of result pages [benchmarks/results]")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, quick: Mapping[str, object]
) -> argparse.Namespace:
    """The options, those of `quick` in the place of the defaults under --quick; what is given by hand wins.

    A quick run leaves no page among the results unless it is told where.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--quick" in argv:
        parser.set_defaults(**quick)
    args = parser.parse_args(argv)
    args.argv = list(argv)
    if args.results is None and not args.quick:
        args.results = RESULTS
    return args


def numbers(text: str) -> tuple[int, ...]:
    """The type of an option that takes several integers: 32,128."""
    return tuple(int(part) for part in text.split(","))


def words(text: str) -> tuple[str, ...]:
    """The type of an option that takes several words: fp32,bf16."""
    return tuple(text.split(","))


# --- measuring ---------------------------------------------------------------------------------------------------


def in_turns(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The seconds of each side, `repeats` times in turns, so that a slow spell of the machine hits every side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            seconds[name].append(measure())
    return seconds


def median(values: Sequence[float]) -> float:
    """The median of measurements."""
    return statistics.median(values)


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """A median with the least and the greatest beside it."""
    low, mid, high = (f"{v * scale:.{digits}f}" for v in (min(values), median(values), max(values)))
    return f"{mid} ({low} to {high})"


def gigabytes(size: float) -> str:
    """Bytes as GB."""
    return f"{size / 1e9:.2f}"


# --- result pages ------------------------------------------------------------------------------------------------


def machine(device: str = "cpu") -> dict[str, str]:
    """Hardware, versions and date: what a number means nothing without."""
    import psutil
    import torch

    from apmctl_core.machine.device import device_name

    cpu = device_name(torch.device("cpu"))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{cpu}, {torch.get_num_threads()} threads, {psutil.virtual_memory().total / 1e9:.0f} GB",
        "device": cpu if device == "cpu" else device_name(torch.device(device)),
        "system": platform.platform(terse=True),
        "versions": f"apmctl {_version()}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def _version() -> str:
    """The version, with the commit and whether the sources differ from it."""
    version = metadata.version("apmctl")
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", "apmctl", "apmctl_core", "benchmarks/*.py")
        return f"{version} ({commit}{', changed' if changed else ''})"
    return version


def _git(*command: str) -> str:
    found = subprocess.run(["git", *command], cwd=HERE.parent, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def report(
    args: argparse.Namespace, name: str, question: str, tables: Sequence[Table], notes: Sequence[str] = ()
) -> Path | None:
    """Print the tables and write NAME-DATE.md into the folder of results, if there is one; returns its path."""
    for table in tables:
        print(table.markdown(), end="\n\n", flush=True)
    for note in notes:
        print(note, flush=True)
    if args.results is None:
        return None
    facts = machine(args.device)
    command = shlex.join(["python", f"benchmarks/{name}.py", *_shown(args.argv)])
    about = [f"- {key}: {value}" for key, value in facts.items()] + [f"- command: `{command}`"]
    if args.quick:
        about.append("- **quick settings: the numbers mean nothing**")
    if threads := os.environ.get("OMP_NUM_THREADS"):
        about.append(f"- OMP_NUM_THREADS={threads}")
    parts = [f"# {question}", "\n".join(about), *(table.markdown() for table in tables), *notes]
    args.results.mkdir(parents=True, exist_ok=True)
    path: Path = args.results / f"{name}-{facts['date'][:10]}.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"written: {path}")
    return path


def _shown(argv: Sequence[str]) -> list[str]:
    """The options without the folder of results, which says nothing about the measurement."""
    shown, skip = [], False
    for word in argv:
        if not skip and not word.startswith("--results"):
            shown.append(word)
        skip = word == "--results"
    return shown
