"""The command without the seconds that a process start takes: forked from one that has everything imported.

A child runs `apmctl.cli.run`, the code of the installed command from its first line on, in a session of its own and
with its own signal handlers. The parent imports torch and computes nothing, so there are no threads to lose in a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# Before torch is imported: bytes are the same for the same number of threads.
os.environ["OMP_NUM_THREADS"] = "1"

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}


def load() -> None:
    """Import all that the commands import in their bodies."""
    for name in (
        *("apmctl_core.jobs.pipeline", "apmctl_core.jobs.planning", "apmctl.cli"),
        *("filelock", "PIL.ImageDraw", "PIL.ImageOps", "safetensors.torch", "sklearn.datasets"),
        "torch._dynamo",  # the first step of an optimiser imports it, which takes a second
    ):
        importlib.import_module(name)
    from apmctl import cli
    from apmctl_core.machine import interrupts

    with contextlib.redirect_stdout(io.StringIO()):
        cli.run(["presets", "--quiet"])  # the parser imports much on its first use
    interrupts.restore()


@dataclass(frozen=True)
class Child:
    """A command at work."""

    pid: int
    log: Path

    def wait(self, seconds: float) -> int | None:
        """Its exit code (negative: the signal that killed it), or None if it is still at work after so long."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= end:
                return None
            time.sleep(0.002)

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.log.read_text(errors="replace")


def start(
    arguments: Sequence[str], log: Path, *, eager: bool = False, die_at: int = 0, root: Path | None = None
) -> Child:
    """Run a command line in a child. `eager` saves a state at every chance, not only when that is cheap.

    With `die_at` n it kills itself before its n-th change of the files under `root`; with a negative n it only counts
    them, and writes their number as the last line of the log.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    try:
        _become(arguments, log, eager, die_at, root)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def _become(arguments: Sequence[str], log: Path, eager: bool, die_at: int, root: Path | None) -> NoReturn:
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    counter = _Counter(root, die_at) if root is not None else None
    if eager:
        _save_always()
    from apmctl import cli

    code = cli.run(arguments)
    sys.stdout.flush()
    if counter is not None:
        os.write(2, f"\n{counter.count}\n".encode())
    os._exit(code)


def _save_always() -> None:
    from apmctl_core.training import checkpoint

    checkpoint._LEAST_SECONDS = 0.0
    checkpoint._SHARE = 1e9


class _Counter:
    """Counts changes of the files under a folder, through Python's audit events, and dies at one of them."""

    def __init__(self, root: Path, die_at: int) -> None:
        self.count = 0
        self._root = str(root)
        self._die_at = die_at
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = event in CHANGES
        if changes and str(arguments[0]).startswith(self._root):
            self.count += 1
            if self.count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
