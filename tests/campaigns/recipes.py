"""What the campaigns run: a small pool and a small set of the digits, and what must be there when they are done."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns import warm

_MODEL = ["--width", "8", "--device", "cpu", "--precision", "fp32", "--no-compile"]
TEACHERS = ["teachers", "digits", "--count", "2", "--epochs", "5", *_MODEL]
DISTILL = [
    *("distill", "digits", "--ipc", "1", "--rounds", "30", "--student-epochs", "20", "--checkpoints", "2"),
    *("--teacher-count", "2", "--teacher-epochs", "5", *_MODEL),
]
COLD = [*DISTILL, "--preprocessing", "zca"]  # from an empty store: data, whitening, teachers, set
_HISTORY = {"events.jsonl", "manifest.json"}  # seconds, dates and what was told on the way


@dataclass(frozen=True, eq=False)
class Job:
    """A command, the store that it starts from, and what an uninterrupted run of it makes of that store."""

    name: str
    arguments: list[str]
    template: Path
    expected: dict[str, str]
    seconds: float

    def begin(self, store: Path) -> list[str]:
        """Put the template into the place of `store`; returns the command line on it."""
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.template, store)
        return on(self.arguments, store)


def on(arguments: list[str], store: Path) -> list[str]:
    """A command line on a store."""
    return [*arguments, "--store", str(store), "--quiet"]


def contents(store: Path) -> dict[str, str]:
    """Every path in a store, hidden ones included, with the sha256 of what decides a result (else nothing)."""
    found = {}
    for path in sorted(store.rglob("*")):
        name = str(path.relative_to(store))
        decides = path.is_file() and path.name not in _HISTORY and not name.startswith(("locks", "cache"))
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if decides else ""
    return found


def jobs(work: Path) -> list[Job]:
    """The jobs, their templates and references made in a folder by runs that nobody interrupts."""
    import time

    made = []
    template = work / "empty"
    template.mkdir()
    for name, arguments in (("cold", COLD), ("teachers", TEACHERS), ("distill", DISTILL)):
        reference = work / f"{name}-reference"
        shutil.copytree(template, reference)
        began = time.monotonic()
        child = warm.start(on(arguments, reference), work / "log")
        if child.wait(600) != 0:
            raise SystemExit(f"{name} does not run: {child.said}")
        made.append(Job(name, arguments, template, contents(reference), time.monotonic() - began))
        if name != "cold":
            template = reference  # distill begins where teachers ended
        else:
            template = _cache_of(reference, work / "cached")
    return made


def _cache_of(store: Path, target: Path) -> Path:
    shutil.copytree(store / "cache" / "data", target / "cache" / "data")
    return target
