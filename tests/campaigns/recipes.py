"""What the campaigns run: a small pool and a small set of the digits, and what must be there when they are done."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.command import Shell
from tests.helpers import contents

_MODEL = ["--width", "8", "--device", "cpu", "--precision", "fp32", "--no-compile"]
TEACHERS = ["teachers", "digits", "--count", "2", "--epochs", "5", *_MODEL]
DISTILL = [
    *("distill", "digits", "--ipc", "1", "--rounds", "30", "--student-epochs", "20", "--checkpoints", "2"),
    *("--teacher-count", "2", "--teacher-epochs", "5", *_MODEL),
]
COLD = [*DISTILL, "--preprocessing", "zca"]  # from an empty store: data, whitening, teachers, set


class Failed(Exception):
    """A promise that was not kept."""


@dataclass(frozen=True, eq=False)
class Job:
    """A command, the store that it starts from, and what an uninterrupted run of it makes of that store."""

    name: str
    arguments: list[str]
    template: Path
    expected: dict[str, bytes]
    seconds: float

    def begin(self, store: Path) -> None:
        """Put the template into the place of `store`."""
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.template, store)


def jobs(work: Path) -> list[Job]:
    """The jobs, their templates and references made in a folder by runs that nobody interrupts."""
    made = []
    template = work / "empty"
    template.mkdir()
    for name, arguments in (("cold", COLD), ("teachers", TEACHERS), ("distill", DISTILL)):
        reference = work / f"{name}-reference"
        shutil.copytree(template, reference)
        began = time.monotonic()
        Shell(reference).json(*arguments)
        made.append(Job(name, arguments, template, contents(reference), time.monotonic() - began))
        if name == "cold":
            template = work / "cached"
            shutil.copytree(reference / "cache" / "data", template / "cache" / "data")
        else:
            template = reference  # distill begins where teachers ended
    return made
