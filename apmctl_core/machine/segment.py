"""Cutting batches into segments, and how long a segment may be: as asked for, or as much as memory holds.

Results do not depend on the segment beyond rounding, so it may change in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from apmctl_core.errors import ConfigError, MemoryExhaustedError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine import memory

T = TypeVar("T")

_SHARE = 0.9  # of what is free may be taken where no budget is given
_SLACK = 0.02  # of the budget are no reason to change anything
_GB = 1e9


def segment_length(count: int, limit: int) -> int:
    """The length of nearly equal segments of at most `limit` (0: no limit) that cover `count` examples."""
    if not limit or limit >= count:
        return count
    return -(-count // -(-count // limit))


def segments(count: int, size: int, *, pad: bool) -> Iterator[tuple[slice, int]]:
    """Cut `count` examples into segments of `size`; with each comes the length to pad it to, if compiled code wants."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield slice(start, stop), size if pad else stop - start


def padded(x: Tensor, length: int, *, zero: bool = False) -> Tensor:
    """`x` with its first row (or zeros) repeated up to `length` rows."""
    missing = length - len(x)
    if missing <= 0:
        return x
    row = torch.zeros_like(x[:1]) if zero else x[:1]
    return torch.cat([x, row.expand(missing, *x.shape[1:])])


@dataclass(frozen=True)
class Load:
    """What a stage asks of the machine: floating-point operations, and bytes beside those that are held already."""

    flops: float  # of the whole stage
    step_flops: float  # of one training step
    images: int  # in the largest pass, where nothing bounds it
    image_bytes: float  # that each image adds to a pass
    fixed_bytes: float  # whatever the segment


class _Shortened(Exception):
    """Work that was left in the middle, to be done again in shorter segments."""


@dataclass
class Segment:
    """The most images that one pass may hold. It shrinks where memory runs out, and says so.

    `limit` 0 means no limit. `budget` is the most bytes that the peak may reach; None leaves it at what is free.
    `automatic` lets `for_load` choose the limit; a limit that was asked for is only ever lowered.
    """

    limit: int = 0
    budget: int | None = None
    automatic: bool = False
    emit: Emit = silent
    _ceiling: int | None = field(default=None, init=False)
    _image_bytes: float = field(default=0.0, init=False)
    _most: int = field(default=0, init=False)  # images in the largest batch that was cut so far

    @property
    def adapts(self) -> bool:
        """Whether memory decides the limit."""
        return self.automatic or self.budget is not None

    def require(self, load: Load, device: torch.device) -> None:
        """Raise ConfigError for a budget that not even one image at a time can keep."""
        if self.budget is None:
            return
        least = memory.held(device) + load.fixed_bytes + load.image_bytes
        if least > self.budget:
            raise ConfigError(
                f"--memory-budget of {self.budget / _GB:.2f} GB is too small: about {least / _GB:.2f} GB are needed "
                "with one image at a time",
                "give more, or take a smaller network or fewer images",
            )

    def for_load(self, load: Load, device: torch.device) -> Segment:
        """The segment for a stage: the longest that is predicted to fit. The first piece of work verifies it."""
        chosen = replace(self)
        if not self.adapts:
            return chosen
        memory.give_back(device)  # what an earlier stage has freed counts as held until then
        held = memory.held(device)
        chosen._ceiling = self.budget or int(held + _SHARE * memory.free(device))
        chosen._image_bytes = load.image_bytes
        most = max(1, int((chosen._ceiling - held - load.fixed_bytes) // load.image_bytes))
        if most < (self.limit or load.images):
            chosen.limit = most
            self.emit(Note(text=f"segments of {segment_length(load.images, most)} images, to stay within memory"))
        return chosen

    def resume(self, limit: int) -> None:
        """Go on with the segments of an interrupted run, where memory had decided them: others round otherwise."""
        if self.adapts:
            self.limit, self._ceiling = limit, None

    def length(self, count: int) -> int:
        """The length of the segments into which `count` images are cut; the largest count is remembered."""
        self._most = max(self._most, count)
        return segment_length(count, self.limit)

    def attempt(self, piece: Callable[[], T], device: torch.device) -> T:
        """Do a piece of work that can be done again; where memory runs out, do it again in shorter segments.

        Raises MemoryExhaustedError where one image at a time is too much.
        """
        while True:
            if self._ceiling is not None:
                memory.begin_peak(device)
            try:
                found = piece()
            except _Shortened:
                pass
            except (RuntimeError, MemoryError) as e:
                if not memory.ran_out(e):
                    raise
                if self._length <= 1:
                    raise _exhausted(self._most) from e
                self._lower(self._length // 2, "memory ran out")
            else:
                self._verify(device)
                return found
            # Only here, since the error's traceback holds on to what the piece had taken.
            memory.give_back(device)

    def checkpoint(self, device: torch.device) -> None:
        """Where a piece of work is long: leave it to be done again if it takes too much. Within `attempt` only."""
        if self._verify(device):
            raise _Shortened

    @property
    def _length(self) -> int:
        return segment_length(self._most, self.limit)

    def _verify(self, device: torch.device) -> bool:
        """Shorten the segments where the peak has gone above the ceiling; whether that was so."""
        if self._ceiling is None:
            return False
        excess = memory.latest_peak(device) - self._ceiling
        if excess <= _SLACK * self._ceiling:
            return False
        taken = f"{(self._ceiling + excess) / _GB:.2f} GB were taken, {self._ceiling / _GB:.2f} may be"
        if self._length <= 1:
            self.emit(Note(text=f"{taken}, with one image at a time", level="warning"))
            self._ceiling = None  # there is nothing left to try
            return False
        fewer = self._length - int(excess // self._image_bytes) - 1
        self._lower(fewer if fewer > 0 else self._length // 2, taken)
        memory.give_back(device)
        return True

    def _lower(self, limit: int, why: str) -> None:
        # Segments are nearly equal, so the next smaller limit may not make them any shorter.
        before, self.limit = self._length, max(1, limit)
        self.emit(Note(text=f"{why}: segments of {self._length} images from here on, after {before}", level="warning"))


def _exhausted(most: int) -> MemoryExhaustedError:
    what = "out of memory with one image at a time" if most else "out of memory before the first image"
    return MemoryExhaustedError(what, "take a smaller network or fewer images, or a machine with more memory")
