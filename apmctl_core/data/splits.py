"""What a data set is tested on: a split of its own, a folder, or a fixed part of the training images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from apmctl_core.config.recipe import NO_TEST, fraction_of
from apmctl_core.data.source import Listing, Rows, Source
from apmctl_core.data.walk import list_files
from apmctl_core.errors import DataError
from apmctl_core.network.references import Reference

FIFTH = 0.2
TRAIN = "train"

Place = Reference | Listing | None
"""Where a data set is: on the Hub, in local files, or in an installed package (None)."""


@dataclass(frozen=True)
class Asked:
    """What `data.test_split` asks for: nothing, a fraction, `none`, or by `name` a split or folder.

    `folder` has the files of a folder, all of which are test images.
    """

    name: str = ""
    fraction: float | None = None
    folder: Listing | None = None


@dataclass(frozen=True)
class Tested:
    """What was chosen, in words: `what` it is, `why` it is no split of the data, whether readers must be told."""

    what: str
    why: str = ""
    told: bool = True
    held_out: bool = False

    def text(self, train: int, test: int) -> str:
        """For manifests and reports, e.g. `a held-out fifth of the images (24 of 120)` or `val/ (30 images)`."""
        if self.what == NO_TEST:
            return NO_TEST
        return f"{self.what} ({test:,} of {train + test:,})" if self.held_out else f"{self.what} ({test:,} images)"

    def notes(self, train: int, test: int) -> list[str]:
        """What everybody who reads the data is told."""
        if self.what == NO_TEST:
            return [f"no test split: all {train:,} images train"]
        why = f": {self.why}" if self.why else ""
        return [f"testing on {self.text(train, test)}{why}"] if self.told else []


def is_elsewhere(test_split: str) -> bool:
    """Whether a `data.test_split` is written as a path."""
    return os.sep in test_split.rstrip(os.sep) or test_split.startswith("~")


def asked(text: str | None, place: Place) -> tuple[Asked, Place]:
    """What `data.test_split` asks for at a place, and the place without the folder that it names, if it names one.

    A bare name is a folder or a split of the data set, a path with a slash is a folder elsewhere. Raises DataError for
    a path with nothing there and for the training images, ConfigError for a fraction that is none.
    """
    if text is None:
        return Asked(), place
    fraction = fraction_of(text)
    if fraction is not None:
        return Asked(f"{fraction:g}", fraction), place
    name = text.rstrip("/")
    if isinstance(place, Listing) and PurePosixPath(name) in place.folders:
        folders = sorted(path.name for path in place.folders if len(path.parts) == 1)
        if name == TRAIN:
            raise _trained(f"{TRAIN}/", [f"{each}/" for each in folders if each != TRAIN])
        rest, folder = _apart(place, PurePosixPath(name))
        if not rest.files:
            raise DataError(f"{name}/ has all images of the data set", "it needs others to train on, e.g. in train/")
        return Asked(f"{name}/", folder=folder), rest
    if is_elsewhere(text):
        folder = replace(list_files(Path(text)), whole=True)
        return Asked(f"{folder.root.name}/", folder=folder), place
    return Asked(name), place


def _trained(what: str, others: Sequence[str]) -> DataError:
    """The error for the training images as test images; `others` are what else there is to test on."""
    choices = f"test on other images: {', '.join(others)}" if others else "leave `data.test_split` out"
    return DataError(f"{what} has the training images", choices)


def _apart(listing: Listing, name: PurePosixPath) -> tuple[Listing, Listing]:
    """A listing without the folder `name`, and that folder."""
    inside = tuple(replace(f, path=f.path.relative_to(name)) for f in listing.files if f.path.is_relative_to(name))
    below = frozenset(p.relative_to(name) for p in listing.folders if p.is_relative_to(name) and p != name)
    outside = tuple(f for f in listing.files if not f.path.is_relative_to(name))
    others = frozenset(p for p in listing.folders if not p.is_relative_to(name))
    rest = replace(listing, files=outside, folders=others)
    return rest, Listing(listing.root / name, inside, below, whole=True)


DEFAULT = Asked()


def with_folder(source: Source, folder: Source, name: str) -> Source:
    """A source whose only test split is the rows of another one, the labels of which become those of the first.

    Raises DataError where these rows are training images, or have numbers for labels where the first has names.
    """
    rows, names = folder.train, source.names
    _require_apart(source.train, rows, name)
    if (names is None) != (folder.names is None):
        raise DataError(f"{name} and the training images do not label their classes alike", "use names in both")
    if names is not None and folder.names is not None:
        names = (*names, *(each for each in folder.names if each not in names))
        number = np.array([names.index(each) for each in folder.names], dtype=np.int64)
        rows = replace(rows, labels=np.where(rows.labels < 0, -1, number[rows.labels]))
    return replace(source, tests=(replace(rows, name=name),), names=names)


def _require_apart(train: Rows, test: Rows, name: str) -> None:
    """Raise DataError for a test image that is trained on: a folder may be, hold, or lie in that of the training."""
    tested = {test.where(i) for i in range(len(test))}
    shared = next((place for place in map(train.where, range(len(train))) if place in tested), None)
    if shared is not None:
        hint = "give a folder with other images; one inside of the data set is given by its name, without a path"
        raise DataError(f"{name} has training images, e.g. {shared}", hint)


def choose(source: Source, wanted: Asked, official: Sequence[str]) -> tuple[Rows | None, Tested]:
    """The rows to test on, None where they are held out or there are none, and what to say about it.

    `official` are the names of splits that need no word. Raises DataError where the split asked for is not there.
    """
    if wanted.name == NO_TEST:
        return None, Tested(NO_TEST)
    if wanted.fraction is not None:
        return None, _held_out(wanted.fraction)
    if wanted.name:
        return _named(source, wanted.name), Tested(_words(wanted.name))
    rows = next((rows for rows in source.tests if _labelled(rows)), None)
    if rows is None:
        return None, _held_out(FIFTH, why="the data has no labelled test split")
    return rows, Tested(_words(rows.name), told=rows.name.rstrip("/") not in official)


def _named(source: Source, name: str) -> Rows:
    rows = next((rows for rows in source.tests if rows.name == name), None)
    if rows is None and name == TRAIN:
        raise _trained("the train split", [rows.name for rows in source.tests])
    if rows is None:
        own = ", ".join(rows.name for rows in source.tests) or "none"
        hint = f"it has: {own}; give a folder elsewhere by its path: `data.test_split ./{name}`"
        raise DataError(f"the data set has no folder or split {name!r} to test on", hint)
    if not _labelled(rows):
        raise DataError(f"the split {name!r} has images without label", "choose another `data.test_split`")
    return rows


def _labelled(rows: Rows) -> bool:
    return len(rows) > 0 and int(rows.labels.min()) >= 0


def _words(name: str) -> str:
    return name if name.endswith("/") else f"the {name} split"


def _held_out(fraction: float, why: str = "") -> Tested:
    part = "fifth" if fraction == FIFTH else f"{100 * fraction:g}%"
    return Tested(f"a held-out {part} of the images", why, held_out=True)


def _keys(count: int) -> np.ndarray:
    """A scrambled number for each index, uint64 (count,): the splitmix64 sequence, the same on every machine.

    The streams of numpy's own generators may change from version to version, and the split must not.
    """
    z = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def held_out(labels: np.ndarray, classes: Sequence[str], fraction: float = FIFTH) -> np.ndarray:
    """Which images are tested on, bool (N,): a fraction of each class, rounded, at least one; one stays at least.

    `labels` int64 (N,) in 0..K-1. The choice depends only on the labels and their order, not on the seed of a run.
    Raises DataError for a class with a single image.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        raise DataError(
            f"class '{classes[int(counts.argmin())]}' has {counts.min()} image, which cannot be split for testing",
            "add images to it, or give the data set a test split of its own",
        )
    order = np.lexsort((_keys(len(labels)), labels))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.floor(counts * fraction + 0.5).astype(np.int64).clip(1, counts - 1)
    mask = np.empty(len(labels), dtype=bool)
    mask[order] = rank < np.repeat(taken, counts)
    return mask
