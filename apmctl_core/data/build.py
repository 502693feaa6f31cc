"""Decode an opened source into a cache folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from apmctl_core.data import cache
from apmctl_core.data.decode import ColourFound, Format, Undecodable, in_order, look, sift, workers
from apmctl_core.data.labels import Assembled
from apmctl_core.data.source import DatasetSpec, Rows
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note, Progress
from apmctl_core.storage.files import atomic_folder, require_space

_LOOK_AT = 256  # images that decide whether a set is grey
_NAMED = 20  # broken images that an error or a note names
_TASK = 64  # images that one thread decodes at a time
_MAX_IMAGE_BYTES = 64 << 20


def choose_format(rows: Rows, spec: DatasetSpec | None, resolution: int | None) -> Format:
    """The shape to decode to: that of a known set, else what the first images have, with `resolution` on top.

    Raises DataError if the first images cannot be read.
    """
    if spec is not None:
        side = resolution or spec.shape[1]
        return Format(spec.shape[0], side, side, fit=True)
    head = list(islice(chain.from_iterable(rows.batches()), _LOOK_AT))
    try:
        with warnings.catch_warnings(action="ignore"):
            grey, height, width = look(head)
    except Undecodable as e:
        raise e.error(rows.where(e.index)) from e
    if resolution:
        height = width = resolution
    fmt = Format(1 if grey else 3, height, width, fit=resolution is not None, grey_guess=grey)
    if math.prod(fmt.shape) > _MAX_IMAGE_BYTES:
        raise DataError(
            f"the images are {width}x{height}, too large to train on", "set a lower `data.resolution`, e.g. 64"
        )
    return fmt


class _Broken:
    """The images of a pass that cannot be decoded: all as a mask, the first ones in words."""

    def __init__(self, data: Assembled) -> None:
        self.mask = np.zeros(len(data.rows), dtype=bool)
        self._where, self._first = data.rows.where, list[tuple[str, Undecodable]]()

    def __len__(self) -> int:
        return int(self.mask.sum())

    def add(self, start: int, errors: Sequence[Undecodable]) -> None:
        """Note those of a batch, the first image of which is image `start`."""
        for error in errors:
            self.mask[start + error.index] = True
            if len(self._first) < _NAMED:
                self._first.append((self._where(start + error.index), error))

    def error(self) -> DataError:
        """The error that lists them."""
        where, only = self._first[0]
        if len(self) == 1:
            return only.error(where)
        listed = "; ".join(f"{where} {error.reason}" for where, error in self._first)
        hint = "replace or remove them; `skip_broken` leaves them out"
        return DataError(f"{len(self):,} images are broken: {listed}{self._more()}", hint)

    def note(self) -> str:
        """What everybody who reads the data without them is told."""
        what = "a broken image" if len(self) == 1 else f"{len(self):,} broken images"
        return f"left out {what}: {', '.join(where for where, _ in self._first)}{self._more()}"

    def _more(self) -> str:
        return f" and {len(self) - len(self._first):,} more" if len(self) > len(self._first) else ""


def _write_images(data: Assembled, fmt: Format, folder: Path, emit: Emit, broken: _Broken) -> dict[str, cache.Entry]:
    total = len(data.rows)
    done = reported = grey = resized = 0
    train_count, test_count = data.counts
    tasks = (batch[i : i + _TASK] for batch in data.rows.batches() for i in range(0, len(batch), _TASK))
    with (
        cache.ArrayWriter(folder / "train_images.npy", (train_count, *fmt.shape), "uint8") as train,
        cache.ArrayWriter(folder / "test_images.npy", (test_count, *fmt.shape), "uint8") as test,
        warnings.catch_warnings(action="ignore"),  # Pillow's; what matters is raised or noted
    ):
        try:
            for batch in in_order(lambda payloads: sift(payloads, fmt), tasks, workers()):
                broken.add(done, batch.broken)
                part = slice(done, done + len(batch.images) + len(batch.broken))
                is_test = data.is_test[part][~broken.mask[part]]
                train.append(batch.images[~is_test])
                test.append(batch.images[is_test])
                done, grey, resized = part.stop, grey + batch.grey, resized + batch.resized
                if done - reported >= max(1000, total // 100) or done == total:
                    reported = done
                    emit(Progress(stage="data", done=done, total=total, unit="images"))
        except Undecodable as e:
            raise e.error(data.rows.where(done + e.index)) from e
        arrays = {"train_images": train.finish(), "test_images": test.finish()}
    for count, changed in (
        (grey, "grey-scale image{} converted to RGB"),
        (resized, f"image{{}} scaled and cropped to {fmt.width}x{fmt.height}"),
    ):
        if count:
            emit(Note(text=f"{count:,} {changed.format(' was' if count == 1 else 's were')}"))
    return arrays


def _write_labels(data: Assembled, folder: Path) -> dict[str, cache.Entry]:
    entries = {}
    for name, labels in (("train_labels", data.labels[~data.is_test]), ("test_labels", data.labels[data.is_test])):
        with cache.ArrayWriter(folder / f"{name}.npy", labels.shape, "int64") as writer:
            writer.append(labels)
            entries[name] = writer.finish()
    return entries


def _without(data: Assembled, broken: _Broken) -> Assembled:
    """The labels of the images that are left. Raises DataError where a class has none to train on."""
    kept = replace(data, labels=data.labels[~broken.mask], is_test=data.is_test[~broken.mask])
    counts = np.bincount(kept.labels[~kept.is_test], minlength=len(data.classes))
    if not counts.all():
        name = data.classes[int(counts.argmin())]
        raise DataError(f"all training images of class '{name}' are broken", "replace them, or remove the class")
    return kept


def build(
    data: Assembled, fmt: Format, folder: Path, about: dict[str, Any], emit: Emit, *, skip_broken: bool = False
) -> None:
    """Decode every image of `data` into `folder`, which appears when it is complete; call it with its lock held.

    Memory does not depend on the number of images. Raises DataError for images that cannot be used, all that are broken
    at once unless they are left out; StoreError if the disk refuses.
    """
    require_space(folder.parent, len(data.rows) * (math.prod(fmt.shape) + 8) + (1 << 20))
    with atomic_folder(folder) as temporary:
        broken = _Broken(data)
        try:
            arrays = _write_images(data, fmt, temporary, emit, broken)
        except ColourFound:
            emit(Note(text="the first images are grey but not all: decoding as RGB"))
            fmt, broken = Format(3, fmt.height, fmt.width, fmt.fit), _Broken(data)
            arrays = _write_images(data, fmt, temporary, emit, broken)
        if len(broken) and not skip_broken:
            raise broken.error()
        kept = _without(data, broken)
        arrays |= _write_labels(kept, temporary)
        notes = [*data.tested.notes(*kept.counts), *([broken.note()] if len(broken) else [])]
        cache.write_meta(temporary, data.classes, arrays, about, data.tested.text(*kept.counts), notes)
