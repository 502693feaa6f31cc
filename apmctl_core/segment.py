"""Cutting batches into segments, and how long a segment may be: as asked for, or as much as memory holds.

Results do not depend on the segment beyond rounding, so it may change in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from apmctl_core import memory
from apmctl_core.errors import ConfigError, MemoryExhaustedError
from apmctl_core.events import Emit, Note, silent

T = TypeVar("T")

_SHARE = 0.9  # of what is free may be taken where no budget is given
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
    changed: Callable[[int], None] | None = None  # told of every new limit
    _ceiling: int | None = field(default=None, init=False)
    _most: int = field(default=1, init=False)  # images in the largest batch that was cut so far

    def for_load(self, load: Load, device: torch.device) -> Segment:
        """The segment for a stage: the longest that is predicted to fit. The first piece of work verifies it.

        Raises ConfigError for a budget that not even one image at a time can keep.
        """
        chosen = replace(self)
        if self.budget is None and not self.automatic:
            return chosen
        held = memory.held(device)
        chosen._ceiling = self.budget or int(held + _SHARE * memory.free(device))
        most = int((chosen._ceiling - held - load.fixed_bytes) // load.image_bytes)
        if most < 1 and self.budget is not None:
            least = held + load.fixed_bytes + load.image_bytes
            raise ConfigError(
                f"--memory-budget {self.budget / _GB:.2f}GB is too small: about {least / _GB:.2f} GB are needed "
                "with one image at a time",
                "give more, or take a smaller network or fewer images",
            )
        if most < load.images:
            chosen.limit = min(self.limit or load.images, max(1, most))
        return chosen

    def length(self, count: int) -> int:
        """The length of the segments into which `count` images are cut."""
        self._most = max(self._most, count)
        return segment_length(count, self.limit)

    def attempt(self, piece: Callable[[], T], device: torch.device) -> T:
        """Do a piece of work that can be done again; where memory runs out, do it again in shorter segments.

        Raises MemoryExhaustedError where one image at a time is too much.
        """
        while True:
            held, peak = memory.held(device), memory.peak(device)
            try:
                found = piece()
            except (RuntimeError, MemoryError) as e:
                if not memory.ran_out(e):
                    raise
                if self._length == 1:
                    hint = "take a smaller network, or a machine with more memory"
                    raise MemoryExhaustedError("out of memory with one image at a time", hint) from e
                self._lower(self._length // 2, "memory ran out")
            else:
                self._verify(held, peak, device)
                return found
            # Only here, since the error's traceback holds on to what the piece had taken.
            memory.give_back(device)

    @property
    def _length(self) -> int:
        return segment_length(self._most, self.limit)

    def _verify(self, held: int, before: int, device: torch.device) -> None:
        """Shorten the segments where a piece of work has just taken the peak above the ceiling."""
        peak = memory.peak(device)
        if self._ceiling is None or peak <= max(self._ceiling, before):
            return
        taken = f"{peak / _GB:.2f} GB were taken, {self._ceiling / _GB:.2f} may be"
        if self._length == 1:
            self.emit(Note(text=f"{taken}, with one image at a time", level="warning"))
            return
        share = (self._ceiling - held) / (peak - held)
        self._lower(min(self._length - 1, int(self._length * share)), taken)
        memory.give_back(device)

    def _lower(self, limit: int, why: str) -> None:
        # Segments are nearly equal, so the next smaller limit may not make them any shorter.
        before, self.limit = self._length, max(1, limit)
        self.emit(Note(text=f"{why}: segments of {self._length} images from here on, after {before}", level="warning"))
        if self.changed:
            self.changed(self.limit)
