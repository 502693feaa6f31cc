"""CIFAR in the files of its authors, as torchvision downloads them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from apmctl_core.data.source import DatasetSpec, Listing, Rows, Source, in_batches
from apmctl_core.errors import DataError
from apmctl_core.events import Emit
from apmctl_core.formats.registry import FileFormat, register

_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def _is_native(listing: Listing, spec: DatasetSpec | None) -> bool:
    folder = _FOLDERS.get(spec.name) if spec is not None else None
    return listing.root.name == folder or any(path.as_posix() == folder for path in listing.folders)


def _reader(name: str) -> Any:
    """torchvision's class for a data set. Raises DataError where torchvision cannot be imported."""
    try:
        from torchvision.datasets import CIFAR10, CIFAR100
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise DataError(
            f"the native files of {name} are read by torchvision, which cannot be imported: {error}",
            "install torch and torchvision together, of one build; or use the parquet files of the Hub",
        ) from error
    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def open_cifar(listing: Listing, spec: DatasetSpec | None, emit: Emit) -> Source:  # noqa: ARG001
    """Open CIFAR's native files, in the listed folder or one below. Raises DataError if they are not the originals,
    or if torchvision cannot be imported.

    The files are pickles, and torchvision unpickles them. This is acceptable only because torchvision first checks
    the md5 of every file against those of the originals, and refuses all others.
    """
    assert spec is not None
    name, folder = spec.name, _FOLDERS[spec.name]
    root = listing.root.parent if listing.root.name == folder else listing.root
    kind = _reader(name)
    try:
        train, test = (kind(str(root), train=which, download=False) for which in (True, False))
    except RuntimeError as error:
        reason = re.split(r"[.\n]", str(error))[0]
        raise DataError(
            f"the native files of {name} in {root} are not the originals: {reason}", "download them again"
        ) from error

    def rows(split: Any, word: str) -> Rows:
        labels = np.asarray(split.targets, dtype=np.int64)
        return Rows(labels, in_batches(list(split.data)), lambda i: f"{word} image {i} of {name}")

    return Source(rows(train, "training"), (rows(test, "test"),), tuple(train.classes), f"native files in {root}")


register(
    FileFormat(
        name="cifar",
        open=open_cifar,
        folders=frozenset(_FOLDERS.values()),
        recognise=_is_native,
        order=20,
        holds=f"CIFAR's native files ({', '.join(_FOLDERS.values())})",
    )
)
