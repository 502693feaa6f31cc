"""Decode an opened source into a cache folder."""

from __future__ import annotations

import math
import warnings
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from apmctl_core.data import cache
from apmctl_core.data.decode import ColourFound, Format, Undecodable, decode, in_order, look, workers
from apmctl_core.data.labels import Assembled
from apmctl_core.data.source import DatasetSpec, Rows
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note, Progress
from apmctl_core.storage.files import atomic_folder, require_space

_LOOK_AT = 256  # images that decide whether a set is grey
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


def _write_images(data: Assembled, fmt: Format, folder: Path, emit: Emit) -> dict[str, cache.Entry]:
    total = len(data.rows)
    done = reported = grey = resized = 0
    counts = np.bincount(data.is_test, minlength=2).tolist()
    tasks = (batch[i : i + _TASK] for batch in data.rows.batches() for i in range(0, len(batch), _TASK))
    with (
        cache.ArrayWriter(folder / "train_images.npy", (counts[0], *fmt.shape), "uint8") as train,
        cache.ArrayWriter(folder / "test_images.npy", (counts[1], *fmt.shape), "uint8") as test,
        warnings.catch_warnings(action="ignore"),  # Pillow's; what matters is raised or noted
    ):
        try:
            for batch in in_order(lambda payloads: decode(payloads, fmt), tasks, workers()):
                is_test = data.is_test[done : done + len(batch.images)]
                train.append(batch.images[~is_test])
                test.append(batch.images[is_test])
                done, grey, resized = done + len(batch.images), grey + batch.grey, resized + batch.resized
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


def build(data: Assembled, fmt: Format, folder: Path, about: dict[str, Any], emit: Emit) -> None:
    """Decode every image of `data` into `folder`, which appears when it is complete; call it with its lock held.

    Memory does not depend on the number of images. Raises DataError for an image that cannot be used, StoreError if
    the disk refuses.
    """
    require_space(folder.parent, len(data.rows) * (math.prod(fmt.shape) + 8) + (1 << 20))
    with atomic_folder(folder) as temporary:
        try:
            arrays = _write_images(data, fmt, temporary, emit)
        except ColourFound:
            emit(Note(text="the first images are grey but not all: decoding as RGB"))
            fmt = Format(3, fmt.height, fmt.width, fmt.fit)
            arrays = _write_images(data, fmt, temporary, emit)
        cache.write_meta(temporary, data.classes, arrays | _write_labels(data, temporary), about)
