"""From the labels of a source to classes 0..K-1 and a test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apmctl_core.data.source import Rows, Source, joined
from apmctl_core.data.splits import DEFAULT, FIFTH, Asked, Tested, choose, held_out
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note

MAX_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class Assembled:
    """All images of a source with the classes decided: `labels` int64 (N,) in 0..K-1, `is_test` bool (N,).

    `tested` says what the test images are.
    """

    classes: tuple[str, ...]
    rows: Rows
    labels: np.ndarray
    is_test: np.ndarray
    origin: str
    tested: Tested

    @property
    def counts(self) -> tuple[int, int]:
        """Training and test images."""
        test = int(self.is_test.sum())
        return len(self.labels) - test, test


def assemble(source: Source, emit: Emit, wanted: Asked = DEFAULT, official: Sequence[str] = ("test",)) -> Assembled:
    """Number the classes 0..K-1 in their order, and choose or make the test split.

    `official` are the names of splits that are tested on without a word. Raises DataError for no images, images without
    label, fewer than two classes, a test class that training lacks, a split asked for that is not there.
    """
    values = _present(source.train, source.names)
    classes = tuple(source.names[v] if source.names else str(v) for v in values)
    test, tested = choose(source, wanted, official)
    if test is not None:
        _check_classes(test, values, source.names)
    rows = joined(source.train, *([test] if test else []))
    labels = np.searchsorted(values, rows.labels).astype(np.int64)
    if tested.held_out:
        return Assembled(
            classes, rows, labels, held_out(labels, classes, wanted.fraction or FIFTH), source.origin, tested
        )
    is_test = np.arange(len(rows)) >= len(source.train)
    missing = len(classes) - len(np.unique(labels[is_test]))
    if test is not None and missing:
        emit(Note(text=f"{missing} of {len(classes)} classes have no test image", level="warning"))
    return Assembled(classes, rows, labels, is_test, source.origin, tested)


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
