"""How long do commands take that have next to nothing to do: help, list, show, and a distill that finds its set?

The installed command is started as a user starts it, on a store with one small set; wall time, in turns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Table, in_turns, options, parse, report, spread

_TINY = ["--ipc", "1", "--rounds", "3", "--student-epochs", "4", "--checkpoints", "2", "--width", "8"]
DISTILL = ["distill", "digits", *_TINY, "--teacher-count", "1", "--teacher-epochs", "1", "--device", "cpu"]
AIMS = {"list": "0.6", "show": "0.6", "distill, reused": "3"}


def installed() -> str:
    """The installed command: beside this Python, else on the path. Raises FileNotFoundError where there is none."""
    beside = Path(sys.executable).with_name("apmctl")
    found = str(beside) if beside.exists() else shutil.which("apmctl")
    if found is None:
        raise FileNotFoundError("apmctl is not installed: pip install -e .")
    return found


def output(command: list[str]) -> str:
    """What a command prints. Raises RuntimeError with its last words where it fails."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return ran.stdout


def wall(command: list[str]) -> Callable[[], float]:
    """A measurement: the seconds from the start of a command to its end."""

    def measure() -> float:
        began = time.perf_counter()
        output(command)
        return time.perf_counter() - began

    return measure


def commands(store: Path) -> dict[str, list[str]]:
    """The commands to be measured, on a store that is filled on the way. Raises RuntimeError if nothing is reused."""
    apmctl, place = installed(), ["--store", str(store)]
    made = json.loads(output([apmctl, *DISTILL, *place, "--json"]))["artifact"]
    again = json.loads(output([apmctl, *DISTILL, *place, "--json"]))["artifact"]
    if not again["reused"] or again["id"] != made["id"]:
        raise RuntimeError("the second distill did not find the set of the first")
    return {
        "python that does nothing": [sys.executable, "-c", "pass"],
        "--help": [apmctl, "--help"],
        "list": [apmctl, "list", *place],
        "show": [apmctl, "show", made["id"], *place],
        "distill, reused": [apmctl, *DISTILL, *place],
    }


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, repeats=11)
    args = parse(parser, argv, {"repeats": 1})
    with tempfile.TemporaryDirectory() as folder:
        measures = {name: wall(command) for name, command in commands(Path(folder)).items()}
        seconds = in_turns(measures, args.repeats)
    rows = [(name, spread(values), AIMS.get(name, "")) for name, values in seconds.items()]
    table = Table("Wall time", ("command", "seconds, median (range)", "below"), rows)
    note = f"{args.repeats} runs of each, in turns, on a warm disk cache; {' '.join(DISTILL)}."
    report(args, "startup", "How long does the command take to start?", [table], [note])


if __name__ == "__main__":
    main()
