"""The cache of decoded data sets: plain .npy files and a JSON file that describes them.

Images are appended with ordinary writes instead of through a memory map, whose pages would count as memory of this
process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from apmctl_core.data.dataset import Dataset, Split
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import disk_errors, read_bounded, store_error, write_bytes

VERSION: Final = 1
ARRAYS: Final = ("train_images", "train_labels", "test_images", "test_labels")
_MAX_META_BYTES: Final = 64 << 20


class Entry(msgspec.Struct, frozen=True):
    """What is recorded of one array: dtype, shape, and the sha256 of its elements in C order."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


class _Meta(msgspec.Struct):
    version: int
    fingerprint: str
    classes: tuple[str, ...]
    arrays: dict[str, Entry]
    split: str | None = None
    notes: tuple[str, ...] = ()


class ArrayWriter:
    """Appends blocks to a .npy file of known shape and dtype, and hashes them on the way.

    The first dimension may turn out smaller in the end, where images were left out.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._path, self._shape, self._dtype = path, shape, np.dtype(dtype).newbyteorder("<")
        self._hash = hashlib.sha256()
        self._rows = 0
        with disk_errors(path):
            self._file = path.open("wb")
            self._write_header()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # as long whatever the first dimension is

    def append(self, block: np.ndarray) -> None:
        """Write `block` (n, *shape[1:]) behind the blocks before it. Raises StoreError if the disk refuses."""
        data = np.ascontiguousarray(block, dtype=self._dtype).reshape(-1).view(np.uint8).data
        self._hash.update(data)
        self._rows += len(block)
        with disk_errors(self._path):
            self._file.write(data)

    def finish(self) -> Entry:
        """Flush to the disk and describe what was written."""
        with disk_errors(self._path):
            if self._rows != self._shape[0]:
                self._shape = (self._rows, *self._shape[1:])
                self._file.seek(0)
                self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())
        return Entry(self._dtype.str, self._shape, self._hash.hexdigest())

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):  # the error that matters was raised by append or finish
            self._file.close()


def fingerprint(classes: tuple[str, ...], arrays: dict[str, Entry]) -> str:
    """sha256 (hex) over class names and the dtype, shape and content of the four arrays."""
    content = {"classes": list(classes), "arrays": {name: msgspec.structs.astuple(arrays[name]) for name in ARRAYS}}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_meta(
    folder: Path,
    classes: tuple[str, ...],
    arrays: dict[str, Entry],
    about: dict[str, Any],
    split: str = "",
    notes: Sequence[str] = (),
) -> None:
    """Write meta.json, the last file of a folder; `about` tells people where the data comes from.

    `split` and `notes` are as in `Dataset`.
    """
    meta = {
        "version": VERSION,
        "fingerprint": fingerprint(classes, arrays),
        "classes": list(classes),
        "arrays": {name: msgspec.structs.asdict(entry) for name, entry in arrays.items()},
        "about": about,
        "split": split,
        "notes": list(notes),
    }
    write_bytes(folder / "meta.json", json.dumps(meta, indent=1).encode())


def _map(path: Path, entry: Entry) -> np.ndarray:
    array = np.lib.format.open_memmap(path, mode="r")  # no other format that numpy knows, and never a pickle
    payload = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    if array.shape != entry.shape or array.dtype.str != entry.dtype or path.stat().st_size != payload + array.offset:
        raise ValueError(f"{path.name} is not what meta.json says")
    loaded: np.ndarray = array
    return loaded


def _consistent(classes: tuple[str, ...], arrays: dict[str, Entry]) -> bool:
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if len(images.shape) != 4 or images.dtype != "|u1" or labels.dtype != "<i8":
            return False
        if labels.shape != images.shape[:1] or images.shape[1:] != arrays["train_images"].shape[1:]:
            return False
    return len(classes) > 1 and min(arrays["train_images"].shape) > 0


def read(folder: Path, name: str) -> Dataset | None:
    """The data set in `folder`, called `name`, or None if there is none or it is damaged.

    Checks sizes, shapes, types and that meta.json agrees with its fingerprint, but reads no image.
    Raises StoreError if the folder may not be read.
    """
    try:
        meta = msgspec.json.decode(read_bounded(folder / "meta.json", _MAX_META_BYTES), type=_Meta)
        if meta.version != VERSION or meta.fingerprint != fingerprint(meta.classes, meta.arrays):
            return None
        if not _consistent(meta.classes, meta.arrays):
            return None
        maps = [_map(folder / f"{key}.npy", meta.arrays[key]) for key in ARRAYS]
        train, test = Split(*maps[:2]), Split(*maps[2:])
        if any(len(s) and not 0 <= s.labels.min() <= s.labels.max() < len(meta.classes) for s in (train, test)):
            return None
    except PermissionError as error:
        raise store_error(error, folder, "read") from error
    except (ArtifactError, msgspec.MsgspecError, OSError, ValueError, KeyError, TypeError, RecursionError, EOFError):
        return None
    return Dataset(name, meta.classes, train, test, meta.fingerprint, meta.split, meta.notes)
