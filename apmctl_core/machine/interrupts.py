"""Stopping on a signal without tearing anything: the signal is an exception, save inside a shield.

The handler raises `Interrupted` in the main thread at once, so that a run stops within moments. Code that must
not be torn (moving a cycle's result into the state, writing a file) runs inside `shielded()`, which holds the
exception back until it is left.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from apmctl_core.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_depth = 0
_pending: int | None = None
_raised: int | None = None


def install() -> None:
    """Turn SIGINT and SIGTERM into `Interrupted`; a second signal while the first is held back kills as usual."""
    global _pending, _raised
    _pending = _raised = None
    for number in _SIGNALS:
        signal.signal(number, _on_signal)


def restore() -> None:
    """Let SIGINT and SIGTERM end the process as usual: for the time when all that is left is to leave."""
    global _pending, _raised
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    _pending = _raised = None


def check() -> None:
    """Raise an interruption again that was lost on its way: Python only prints what is raised in a finaliser."""
    if _raised is not None and _depth == 0:
        raise _interrupted(_raised)


def _on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    global _pending, _raised
    if _depth == 0:
        _raised = number
        raise _interrupted(number)
    if _pending is not None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    _pending = number


def _interrupted(number: int) -> Interrupted:
    name = signal.Signals(number).name
    return Interrupted(f"interrupted by {name}", "rerun the same command to resume", signal=number)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold an interruption back until the block is done."""
    global _depth, _pending, _raised
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _pending is not None:
            _raised = number = _pending
            _pending = None
            raise _interrupted(number)
