"""Measurements in processes of their own: each side has its own allocator, its own peak of memory, and its turn.

A script starts itself again with `--worker OPTIONS`. Parent and child exchange lines of JSON: the parent says "go",
the child does its piece of work and answers with what it measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from apmctl_core.events import Event, Note, Progress

_STATUS = Path("/proc/self/status")


class Worker:
    """The parent's end: a child that does its piece of work each time it is asked to."""

    def __init__(self, script: str | Path, options: Mapping[str, Any]) -> None:
        self.notes: list[str] = []
        self._child = subprocess.Popen(
            [sys.executable, str(script), "--worker", json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> dict[str, Any]:
        """Have the work done once; what the child measured. Raises RuntimeError where it has died."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write("go\n")
            self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"a child ended with exit code {self._child.wait()}; see above")
        answer: dict[str, Any] = json.loads(line)
        self.notes += [note for note in answer.pop("notes", []) if note not in self.notes]
        return answer

    def seconds(self) -> float:
        """Have the work done once; the seconds that it took."""
        return float(self.go()["seconds"])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._child.communicate(timeout=30)
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()


class Channel:
    """The child's end. What anyone else prints goes to stderr, so that answers stay whole."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> bool:
        """Wait to be asked; False where nobody will ask any more."""
        return sys.stdin.readline().strip() == "go"

    def answer(self, values: Mapping[str, Any]) -> None:
        """Answer the parent."""
        self._out.write(json.dumps(dict(values)) + "\n")
        self._out.flush()

    def serve(self, work: Callable[[], Mapping[str, Any]]) -> None:
        """Do `work` each time it is asked for; seconds and peak memory are added to its answer."""
        while self.wait():
            began = time.perf_counter()
            values = dict(work())
            self.answer({"seconds": time.perf_counter() - began, "peak": peak_bytes(), **values})


class Paced:
    """Lets a stage of the engine run one step of its progress each time the parent asks: its sink of events.

    The engine is thus measured on the road that users take, with nothing of it taken apart.
    """

    class Stop(Exception):
        """Nobody asks any more."""

    def __init__(self, channel: Channel, peak: Callable[[], int]) -> None:
        self._channel = channel
        self._peak = peak
        self._notes: list[str] = []
        self._began = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._notes.append(event.text)
        if isinstance(event, Progress):
            seconds = time.perf_counter() - self._began
            self._channel.answer({"seconds": seconds, "peak": self._peak(), "notes": self._notes, **event.metrics})
            self._next()

    def _next(self) -> None:
        if not self._channel.wait():
            raise Paced.Stop
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Wait for the first request; the stage runs inside, until nobody asks any more."""
        with contextlib.suppress(Paced.Stop):
            self._next()
            yield


def peak_bytes() -> int:
    """The most resident memory that this process has had.

    Read from /proc where there is one: what getrusage says of a child begins with the memory of its parent.
    """
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import torch

    from apmctl_core.machine import memory

    return memory.peak(torch.device("cpu"))
