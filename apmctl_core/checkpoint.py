"""How a long stage keeps its state so that it can go on where it stopped. Where the state lies is not its business."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

_SHARE = 0.02  # of the time may go into saving


@dataclass(frozen=True)
class Snapshot:
    """The state of a stage: tensors, and plain values beside them."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)


class Keeper(Protocol):
    """A place for the states of a run, each under a name."""

    def load(self, name: str) -> Snapshot | None: ...

    def save(self, name: str, snapshot: Snapshot) -> None: ...

    def clear(self, name: str) -> None: ...


class Nowhere:
    """Keeps nothing: for runs that are too short to be worth it."""

    def load(self, name: str) -> Snapshot | None:  # noqa: ARG002
        return None

    def save(self, name: str, snapshot: Snapshot) -> None: ...

    def clear(self, name: str) -> None: ...


class Thrifty:
    """Saves under one name, no more often than keeps the cost under two per cent of the time."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self._name = name
        self._next = time.monotonic() + 1.0

    def offer(self, make: Callable[[], Snapshot], *, now: bool = False) -> None:
        """Save the snapshot that `make` makes, if it is time to or if `now`."""
        if not now and time.monotonic() < self._next:
            return
        began = time.monotonic()
        self._keeper.save(self._name, make())
        self._next = time.monotonic() + max(1.0, (time.monotonic() - began) / _SHARE)
