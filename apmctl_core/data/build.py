"""Decode an opened source into a cache folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from apmctl_core.data import cache
from apmctl_core.data.decode import ColourFound, Decoded, Format, Undecodable, decode, in_order, look, workers
from apmctl_core.data.labels import Assembled, Part
from apmctl_core.data.source import DatasetSpec, Payload, Rows
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note, Progress
from apmctl_core.storage.files import atomic_folder, require_space

_LOOK_AT = 256  # images that decide whether a set is grey
_TASK = 64  # images that one thread decodes at a time
_MAX_IMAGE_BYTES = 64 << 20


@dataclass
class _Tally:
    """Counts so far; progress is reported every hundredth of `total`."""

    total: int
    done: int = 0
    grey: int = 0
    resized: int = 0
    reported: int = 0

    def add(self, batch: Decoded, emit: Emit) -> None:
        self.done += len(batch.images)
        self.grey += batch.grey
        self.resized += batch.resized
        if self.done - self.reported >= max(1000, self.total // 100) or self.done == self.total:
            self.reported = self.done
            emit(Progress(stage="data", done=self.done, total=self.total, unit="images"))


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


def _tasks(rows: Rows) -> Iterator[Sequence[Payload]]:
    for batch in rows.batches():
        for start in range(0, len(batch), _TASK):
            yield batch[start : start + _TASK]


def _decode_part(part: Part, fmt: Format, out: dict[bool, cache.ArrayWriter], tally: _Tally, emit: Emit) -> None:
    first = tally.done
    changed = DataError(f"the data set changed while it was read ({part.rows.where(0)})", "run the command again")
    try:
        for batch in in_order(lambda payloads: decode(payloads, fmt), _tasks(part.rows), workers()):
            done = tally.done - first
            mask = part.is_test[done : done + len(batch.images)]
            if len(mask) != len(batch.images):
                raise changed
            for test in (False, True):
                if (mask == test).any():
                    out[test].append(batch.images[mask == test])
            tally.add(batch, emit)
    except Undecodable as e:
        # Tasks come in order and all but the last of a batch are of one size, so the index counts from `done`.
        raise e.error(part.rows.where(tally.done - first + e.index)) from e
    if tally.done - first != len(part.rows):
        raise changed


def _write_images(data: Assembled, fmt: Format, folder: Path, emit: Emit) -> tuple[dict[str, cache.Entry], _Tally]:
    counts = {test: data.count(test=test) for test in (False, True)}
    tally = _Tally(sum(counts.values()))
    with (
        cache.ArrayWriter(folder / "train_images.npy", (counts[False], *fmt.shape), "uint8") as train,
        cache.ArrayWriter(folder / "test_images.npy", (counts[True], *fmt.shape), "uint8") as test,
        warnings.catch_warnings(action="ignore"),  # Pillow's; what matters is raised or noted
    ):
        for part in data.parts:
            _decode_part(part, fmt, {False: train, True: test}, tally, emit)
        return {"train_images": train.finish(), "test_images": test.finish()}, tally


def _write_labels(data: Assembled, folder: Path) -> dict[str, cache.Entry]:
    entries = {}
    for name, test in (("train_labels", False), ("test_labels", True)):
        labels = data.labels(test=test)
        with cache.ArrayWriter(folder / f"{name}.npy", labels.shape, "int64") as writer:
            writer.append(labels)
            entries[name] = writer.finish()
    return entries


def _report(tally: _Tally, fmt: Format, emit: Emit) -> None:
    scaled = f"scaled and cropped to {fmt.width}x{fmt.height}"
    for count, kind, change in ((tally.grey, "grey-scale image", "converted to RGB"), (tally.resized, "image", scaled)):
        if count:
            emit(Note(text=f"{count:,} {kind}{' was' if count == 1 else 's were'} {change}"))


def build(data: Assembled, fmt: Format, folder: Path, about: dict[str, Any], emit: Emit) -> None:
    """Decode every image of `data` into `folder`, which appears when it is complete; call it with its lock held.

    Memory does not depend on the number of images. Raises DataError for an image that cannot be used, StoreError if
    the disk refuses.
    """
    total = sum(len(part.rows) for part in data.parts)
    require_space(folder.parent, total * (math.prod(fmt.shape) + 8) + (1 << 20))
    with atomic_folder(folder) as temporary:
        try:
            arrays, tally = _write_images(data, fmt, temporary, emit)
        except ColourFound:
            emit(Note(text="the first images are grey but not all: decoding as RGB"))
            fmt = Format(3, fmt.height, fmt.width, fmt.fit)
            arrays, tally = _write_images(data, fmt, temporary, emit)
        _report(tally, fmt, emit)
        cache.write_meta(temporary, data.classes, arrays | _write_labels(data, temporary), about)
