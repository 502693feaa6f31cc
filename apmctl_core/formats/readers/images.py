"""Folders of images: a folder a class, directly or below train/ and test/."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from apmctl_core.data.source import DatasetSpec, Listing, Payload, Rows, Source, in_batches
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note
from apmctl_core.formats.registry import FileFormat, register

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_TEST = ("test", "val", "valid", "validation")
_LAYOUT = "a folder of images for each class, or train/ and test/ with such folders"

Grouped = dict[str, list[PurePosixPath]]


def _group(listing: Listing, below: PurePosixPath) -> Grouped:
    """The images below a folder by class; a class may have folders of its own, as Tiny ImageNet's have."""
    depth = len(below.parts)
    groups: Grouped = defaultdict(list)
    for folder in listing.folders:
        if len(folder.parts) == depth + 1 and folder.parent == below:
            groups[folder.name] = []
    for path in listing.with_suffix(_SUFFIXES):
        if path.parts[:depth] == below.parts and len(path.parts) > depth + 1:
            groups[path.parts[depth]].append(path)
    return dict(sorted(groups.items()))


def _check(groups: Grouped, folder: Path) -> None:
    if not groups:
        raise DataError(f"{folder} has no class folders", f"it should have {_LAYOUT}")
    empty = [name for name, paths in groups.items() if not paths]
    if len(empty) == len(groups):
        raise DataError(f"there are no images in the class folders of {folder}", f"it should have {_LAYOUT}")
    if empty:
        raise DataError(f"class folder {folder / empty[0]} has no images", "remove it, or add images to it")


def _require_training(listing: Listing, groups: Grouped) -> None:
    """Raise DataError for folders with the names of test splits, and classes below them, where there is no train/."""
    deep = {path.parts[0] for paths in groups.values() for path in paths if len(path.parts) > 2}
    if groups and deep.issuperset(groups) and groups.keys() <= set(_TEST):
        found = " and ".join(f"{name}/" for name in groups)
        raise DataError(f"{listing.root} has {found} but no train/", "put the training images into train/CLASS/")


def _rows(listing: Listing, groups: Grouped, names: Sequence[str], split: str) -> Rows:
    number = {name: i for i, name in enumerate(names)}
    paths = [path for group in groups.values() for path in group]
    labels = np.repeat(
        np.array([number[name] for name in groups], dtype=np.int64), [len(group) for group in groups.values()]
    )
    payloads: list[Payload] = [listing.root / path for path in paths]
    return Rows(labels, in_batches(payloads), lambda i: str(payloads[i]), name=f"{split}/")


def open_images(listing: Listing, spec: DatasetSpec | None, emit: Emit) -> Source:  # noqa: ARG001
    """Open a folder in torchvision's ImageFolder layout; classes are the folders, sorted by name.

    Without a folder for testing (test, val, valid or validation, the first that has class folders) a fixed fifth of
    the images is tested on. Raises DataError for another layout, or a class without images.
    """
    split = PurePosixPath("train") in listing.folders and not listing.whole
    train_folder = PurePosixPath("train") if split else PurePosixPath()
    train = _group(listing, train_folder)
    if not split and not listing.whole:
        _require_training(listing, train)
    _check(train, listing.root / train_folder)
    tests: dict[str, Grouped] = {}
    if train_folder.parts:
        candidates = {word: _group(listing, PurePosixPath(word)) for word in _TEST}
        flat = [word for word in _TEST if PurePosixPath(word) in listing.folders and not candidates[word]]
        if flat:
            emit(Note(text=f"{listing.root / flat[0]} has no class folders and is left out", level="warning"))
        for word in [word for word in _TEST if candidates[word]][:1]:
            _check(candidates[word], listing.root / word)
            tests = {word: candidates[word]}
    names = sorted({*train, *(name for groups in tests.values() for name in groups)})
    first, *others = (_rows(listing, groups, names, word) for word, groups in {"train": train, **tests}.items())
    return Source(first, tuple(others), tuple(names), f"images in {listing.root}")


register(FileFormat(name="images", open=open_images, suffixes=_SUFFIXES, order=90, holds=_LAYOUT))
