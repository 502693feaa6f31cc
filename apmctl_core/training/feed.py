"""What a training sees: the examples of its steps, in random order, augmented, segment after segment.

Shape legend: N examples in a source, S in a segment.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apmctl_core.seeding import Stream
from apmctl_core.training import augment
from apmctl_core.training.augment import Augmentation
from apmctl_core.training.examples import Examples, Source

# Small segments are gathered and augmented several at once: an operation on a few images costs hardly less than one
# on many. At most so many segments, and so many bytes of float32 images (which stay in the processor's cache).
_SEGMENTS, _BYTES = 16, 12 << 20


@dataclass(frozen=True)
class Cut:
    """A segment of a step: which examples (S,), and the draws (S, 4) that augment them."""

    index: Tensor
    draws: Tensor


def cuts(
    count: int, batch: int, size: int, stream: Stream, dsa: str = "image", numbers: int = augment.NUMBERS
) -> Iterator[Cut]:
    """An epoch of `count` examples in random order, cut into steps of `batch` and these into segments of `size`.

    `dsa` says whether each image or each step draws its transformation, `numbers` how many decide one.
    """
    rng = stream.generator()
    order = torch.randperm(count, generator=rng)
    draws = augment.draw(count, rng, sharing=batch if dsa == "batch" else 1, numbers=numbers)
    for step, drawn in zip(order.split(batch), draws.split(batch), strict=True):
        yield from map(Cut, step.split(size), drawn.split(size))


def feed(
    source: Source, wanted: Iterator[Cut], *, augmentation: Augmentation | None
) -> Generator[Examples, None, None]:
    """The examples of each cut; their order within a cut is left open, since it decides nothing beyond rounding."""
    most = _BYTES // (4 * math.prod(source.shape))
    groups = (_Group(group, augmentation) for group in _grouped(wanted, most))
    read, used = itertools.tee(groups)
    with contextlib.closing(source.batches(group.index for group in read)) as batches:
        for group, (x, target) in zip(used, batches, strict=True):
            yield from zip(group.seen(x), group.parted(target.split(group.sizes)), strict=True)


def _grouped(wanted: Iterator[Cut], most: int) -> Iterator[list[Cut]]:
    """Cuts in lists of at most `most` images, if one alone has not more."""
    for first in wanted:
        more = min(_SEGMENTS, most // len(first.index)) - 1
        yield [first, *itertools.islice(wanted, max(0, more))]


class _Group:
    """Several cuts together: sorted by transformation, and by cut within each, so that both are slices."""

    def __init__(self, group: Sequence[Cut], augmentation: Augmentation | None) -> None:
        index, draws = torch.cat([cut.index for cut in group]), torch.cat([cut.draws for cut in group])
        lengths = torch.tensor([len(cut.index) for cut in group])
        number = torch.arange(len(group)).repeat_interleave(lengths)
        kinds = augmentation.kinds if augmentation else 1
        key = augment.chosen(draws, kinds) * len(group) + number
        order = key.argsort(stable=True)
        counts = torch.bincount(key, minlength=kinds * len(group)).view(kinds, len(group))
        self.index = index[order]
        self.sizes: list[int] = counts.sum(1).tolist()
        self._draws = draws[order]
        self._counts: list[list[int]] = counts.tolist()
        self._augmentation = augmentation

    def seen(self, x: Tensor) -> Iterator[Tensor]:
        """The images of each cut, augmented, of all images as `index` orders them."""
        a = self._augmentation
        return self.parted(a.apply_sorted(x, self._draws, self.sizes) if a else [x])

    def parted(self, kinds: Iterable[Tensor]) -> Iterator[Tensor]:
        """What belongs to each cut, of what belongs to each transformation."""
        pieces = [part.split(counts) for part, counts in zip(kinds, self._counts, strict=True)]
        return map(torch.cat, zip(*pieces, strict=True)) if len(pieces) > 1 else iter(pieces[0])
