"""From the labels of a source to classes 0..K-1, and the fixed split of a set that has no test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apmctl_core.data.source import Rows, Source, joined
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note

MAX_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class Assembled:
    """All images of a source with the classes decided: `labels` int64 (N,) in 0..K-1, `is_test` bool (N,)."""

    classes: tuple[str, ...]
    rows: Rows
    labels: np.ndarray
    is_test: np.ndarray
    origin: str


def assemble(source: Source, emit: Emit) -> Assembled:
    """Number the classes 0..K-1 in their order, and choose or make the test split.

    Raises DataError for no images, images without label, fewer than two classes, a test class that training lacks.
    """
    values = _present(source.train, source.names)
    classes = tuple(source.names[v] if source.names else str(v) for v in values)
    test = next((rows for rows in source.tests if len(rows) and rows.labels.min() >= 0), None)
    if test is not None:
        _check_classes(test, values, source.names)
    rows = joined(source.train, *([test] if test else []))
    labels = np.searchsorted(values, rows.labels).astype(np.int64)
    if test is None:
        if source.tests:
            emit(Note(text="the test split has no labels: testing on a fixed fifth of the training images"))
        return Assembled(classes, rows, labels, held_out(labels, classes), source.origin)
    is_test = np.arange(len(rows)) >= len(source.train)
    missing = len(classes) - len(np.unique(labels[is_test]))
    if missing:
        emit(Note(text=f"{missing} of {len(classes)} classes have no test image", level="warning"))
    return Assembled(classes, rows, labels, is_test, source.origin)


def _present(rows: Rows, names: Sequence[str] | None) -> np.ndarray:
    if not len(rows):
        raise DataError("the data set has no training images", "check the path, or that the download was complete")
    low = int(rows.labels.argmin())
    if rows.labels[low] < 0:
        raise DataError(f"{rows.where(low)} has no label", "remove the images without label, or label them")
    values: np.ndarray = np.unique(rows.labels)
    if names is not None and values[-1] >= len(names):
        where = rows.where(int(rows.labels.argmax()))
        raise DataError(f"{where} has label {values[-1]}, but there are only {len(names)} class names")
    if len(values) < 2:
        raise DataError("the data set has a single class", "at least two classes are needed to learn anything")
    if len(values) > MAX_CLASSES:
        raise DataError(f"the label column has {len(values)} different values", "is it really a class label?")
    return values


def _check_classes(rows: Rows, values: np.ndarray, names: Sequence[str] | None) -> None:
    known = np.isin(rows.labels, values)
    if not known.all():
        first = int(known.argmin())
        value = int(rows.labels[first])
        label = names[value] if names and value < len(names) else str(value)
        raise DataError(
            f"{rows.where(first)} is of class '{label}', which has no training images",
            "the test split may only have classes of the training split",
        )


def _keys(count: int) -> np.ndarray:
    """A scrambled number for each index, uint64 (count,): the splitmix64 sequence, the same on every machine.

    The streams of numpy's own generators may change from version to version, and the split must not.
    """
    z = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def held_out(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Which images are tested on, bool (N,): a fifth of each class, rounded, at least one.

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
    mask = np.empty(len(labels), dtype=bool)
    mask[order] = rank < np.repeat(np.maximum(1, (counts + 2) // 5), counts)
    return mask
