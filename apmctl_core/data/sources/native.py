"""CIFAR in the files of its authors, as torchvision downloads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from apmctl_core.data.listing import Listing
from apmctl_core.data.rows import Rows, Source, in_batches
from apmctl_core.errors import DataError

_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def native_root(listing: Listing, name: str) -> Path | None:
    """The folder that torchvision calls `root`, if these are the native files of `name`."""
    folder = _FOLDERS.get(name)
    if folder is None:
        return None
    if listing.root.name == folder:
        return listing.root.parent
    return listing.root if any(p.name == folder and len(p.parts) == 1 for p in listing.folders) else None


def open_native(root: Path, name: str) -> Source:
    """Open CIFAR's native files below `root`. Raises DataError if they are not the originals.

    The files are pickles, and torchvision unpickles them. That is acceptable here alone: it first checks the md5 of
    every file against those of the originals, and refuses all others.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    try:
        train, test = (kind(str(root), train=which, download=False) for which in (True, False))
    except RuntimeError as error:
        reason = re.split(r"[.\n]", str(error))[0]
        raise DataError(
            f"the native files of {name} in {root} are not the originals: {reason}", "download them again"
        ) from error

    def rows(split: CIFAR10, word: str) -> Rows:
        labels = np.asarray(split.targets, dtype=np.int64)
        return Rows(labels, in_batches(list(split.data)), lambda i: f"{word} image {i} of {name}")

    return Source(rows(train, "training"), (rows(test, "test"),), tuple(train.classes), f"native files in {root}")
