"""Cutting batches into segments, and how long a segment may be: as asked for, or as much as memory holds.

Results do not depend on it beyond rounding, so it may change in the middle of a run. It is a value: work that can be
done again gets one and hands back the one that served, which travels in the state of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from apmctl_core.errors import MemoryExhaustedError
from apmctl_core.events import Emit, Note
from apmctl_core.machine import memory

T = TypeVar("T")

_SLACK = 0.02  # of the ceiling is no reason to change anything
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Segment:
    """How batches are cut.

    `limit` is the most images in one pass (0: no limit), of at most `images`; no shorter than `whole` helps. Where
    `ceiling` is given, the bytes of the process or the device are held below it; each image takes `image_bytes`.
    """

    limit: int = 0
    images: int = 1
    whole: int = 1
    ceiling: int | None = None
    image_bytes: float = 1.0

    def length(self, count: int) -> int:
        """The length of the segments into which `count` images are cut."""
        return segment_length(count, self.limit)

    @property
    def longest(self) -> int:
        """Images in the largest pass."""
        return self.length(self.images)


def segment_length(count: int, limit: int) -> int:
    """The length of nearly equal segments of at most `limit` (0: no limit) that cover `count` examples."""
    if not limit or limit >= count:
        return count
    return -(-count // -(-count // limit))


def segments(count: int, size: int, *, pad: bool) -> Iterator[tuple[slice, int]]:
    """Cut `count` examples into segments of `size`, each with the length to pad it to, if compiled code wants that."""
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


class _Changed(Exception):
    """Work that has to be done again with another segment."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment


def attempt(work: Callable[[Segment], T], segment: Segment, device: torch.device, emit: Emit) -> tuple[T, Segment]:
    """Do work that can be done again; where memory runs out, do it again in shorter segments.

    Returns what `work` returns, and the segment to go on with. Raises MemoryExhaustedError where the shortest segment
    is too much.
    """
    while True:
        if segment.ceiling is not None:
            memory.begin_peak(device)
        try:
            value = work(segment)
        except _Changed as change:
            segment = change.segment
        except (RuntimeError, MemoryError) as e:
            if not memory.ran_out(e):
                raise
            if segment.longest <= segment.whole:
                what = "one image" if segment.whole == 1 else f"a batch of {segment.whole} images"
                hint = "use a smaller network, fewer images or a machine with more memory"
                raise MemoryExhaustedError(f"out of memory with {what} at a time", hint) from e
            segment = _shorter(segment, segment.longest // 2, "memory ran out", emit)
        else:
            return value, _checked(segment, device, emit)
        # Only here, since the error's traceback holds on to what the work had allocated.
        memory.give_back(device)


def checkpoint(segment: Segment, device: torch.device, emit: Emit) -> None:
    """In the middle of long work within `attempt`: start it again with a shorter segment if it takes too much."""
    checked = _checked(segment, device, emit)
    if checked != segment:
        raise _Changed(checked)


def _checked(segment: Segment, device: torch.device, emit: Emit) -> Segment:
    """The same segment, or a shorter one where the peak of memory has gone above the ceiling."""
    if segment.ceiling is None:
        return segment
    peak = memory.latest_peak(device)
    excess = peak - segment.ceiling
    if excess <= _SLACK * segment.ceiling:
        return segment
    why = f"memory use reached {peak / _GB:.2f} GB, the limit is {segment.ceiling / _GB:.2f} GB"
    if segment.longest <= segment.whole:
        emit(Note(text=f"{why}; segments cannot be shorter", level="warning"))
        return replace(segment, ceiling=None)
    memory.give_back(device)
    fewer = segment.longest - int(excess // segment.image_bytes) - 1
    return _shorter(segment, fewer if fewer > 0 else segment.longest // 2, why, emit)


def _shorter(segment: Segment, limit: int, why: str, emit: Emit) -> Segment:
    # Segments are nearly equal, so the next smaller limit may not make them any shorter.
    shorter = replace(segment, limit=max(segment.whole, limit))
    text = f"{why}: using segments of {shorter.longest} images instead of {segment.longest}"
    emit(Note(text=text, level="warning"))
    return shorter
