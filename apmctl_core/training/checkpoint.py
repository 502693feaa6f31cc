"""How a long stage keeps its state so that it can be resumed. Where the state lies is not its business."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from apmctl_core.events import Progress
from apmctl_core.machine.interrupts import shielded

_SHARE = 0.02  # of the time may go into saving
_LEAST_SECONDS = 1.0  # of work between two states


@dataclass(frozen=True)
class Snapshot:
    """The state of a stage: tensors, plain values beside them, the limit of its segments, and how far the stage is."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)
    segment: int = 0
    progress: Progress | None = None


class Keeper(Protocol):
    """A place for the states of a run, each under a name."""

    def load(self, name: str) -> Snapshot | None: ...

    def save(self, name: str, snapshot: Snapshot) -> None: ...

    def clear(self, name: str) -> None: ...


class NullKeeper:
    """Keeps nothing: for runs that are too short to be worth it."""

    def load(self, name: str) -> Snapshot | None:  # noqa: ARG002
        return None

    def save(self, name: str, snapshot: Snapshot) -> None: ...

    def clear(self, name: str) -> None: ...


class ThrottledSaver:
    """Saves under one name, no more often than keeps the cost under two per cent of the time."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self._name = name
        self._saved = time.monotonic()
        self._next = self._saved + _LEAST_SECONDS

    def offer(self, make: Callable[[], Snapshot], *, now: bool = False) -> None:
        """Save the snapshot that `make` makes, if it is time to, or must be `now`."""
        if now or time.monotonic() >= self._next:
            self._save(make)

    def last(self, make: Callable[[], Snapshot]) -> None:
        """Save before the stage is left for good; a signal that comes meanwhile waits until it is done."""
        with shielded():
            self._save(make)

    def done(self, make: Callable[[], Snapshot]) -> None:
        """Save the end of a stage that others follow, where more than a second's work would be lost with it."""
        if time.monotonic() - self._saved >= _LEAST_SECONDS:
            self._save(make)

    def _save(self, make: Callable[[], Snapshot]) -> None:
        began = time.monotonic()
        self._keeper.save(self._name, make())
        self._saved = time.monotonic()
        self._next = self._saved + max(_LEAST_SECONDS, (self._saved - began) / _SHARE)
