"""What data sets are opened from and as: the known sets, the files of a local one, and images with labels.

Everything here is plain values, so that formats and known sets can be defined without the rest of the package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from apmctl_core.errors import DataError
from apmctl_core.registry import Registry

Payload = bytes | Path | np.ndarray
"""An image not decoded yet: a file's bytes, a file, or pixels uint8 (H, W) or (H, W, 3)."""

KNOWN: Registry[DatasetSpec] = Registry("data.dataset")


@dataclass(frozen=True, eq=False)
class Rows:
    """Images of one split, N of them.

    `labels` int64 (N,) are values of the source, negative for an image without label; `batches()` starts a new pass
    over the encoded images, in the order of the labels; `where(i)` says for people where image i lies. `name` is what
    the split is called, a folder's with a slash behind it.
    """

    labels: np.ndarray
    batches: Callable[[], Iterable[Sequence[Payload]]]
    where: Callable[[int], str]
    name: str = "test"

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """An opened source: the training rows and the candidates for the test split, the best first.

    `names` are the class names that integer labels index, or None where the labels' values name the classes;
    `origin` is kept beside the cached data, for people.
    """

    train: Rows
    tests: tuple[Rows, ...]
    names: tuple[str, ...] | None
    origin: str


def in_batches(items: Sequence[Payload], size: int = 256) -> Callable[[], Iterator[Sequence[Payload]]]:
    """The `batches` of items that are all at hand."""
    return lambda: (items[start : start + size] for start in range(0, len(items), size))


def joined(*parts: Rows) -> Rows:
    """The images of all parts, in one pass that fails where a part has not as many images as labels."""
    starts = np.cumsum([0, *map(len, parts)])

    def batches() -> Iterator[Sequence[Payload]]:
        for part in parts:
            left = len(part)
            for batch in part.batches():
                left -= len(batch)
                if left < 0:
                    break
                yield batch
            if left:
                raise DataError(f"the data set changed while it was read ({part.where(0)})", "run the command again")

    def where(i: int) -> str:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return parts[k].where(i - int(starts[k]))

    return Rows(np.concatenate([part.labels for part in parts]), batches, where)


@dataclass(frozen=True, order=True)
class File:
    """A file below the root: its path relative to it, its size in bytes and its time of change in ns."""

    path: PurePosixPath
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """A folder (or a single file's folder) with its data files, sorted by path, and all its folders.

    `skipped_links` counts symbolic links that were not followed, because they lead out of the folder or to a folder.
    `whole` says that all files are of one split, whatever their names say; it is opened as a training split.
    """

    root: Path
    files: tuple[File, ...]
    folders: frozenset[PurePosixPath]
    skipped_links: int = 0
    whole: bool = False

    def with_suffix(self, suffixes: frozenset[str]) -> tuple[PurePosixPath, ...]:
        """The paths of the files with one of these suffixes, in any case of letters."""
        return tuple(f.path for f in self.files if f.path.suffix.lower() in suffixes)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set that is known by name. One file in `data/known/` defines and registers it.

    It is downloaded from the repository `hub`, or `open` makes it from an installed package. `shape` is (C, H, W);
    `train` and `test` are the numbers of images of the full set, from which a local copy may differ. `test_splits`
    lists the labelled splits to test on: the first that exists is taken. `mean_std` holds the mean and the standard
    deviation of each channel that published runs use; without it they are measured. `classes` are the names of the
    classes, or regular expressions that they match; files with other classes are refused under this name. `photographs`
    says that its images come in all sizes and only become `shape`.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int
    train: int
    test: int
    hub: str | None = None
    open: Callable[[], Source] | None = None
    image_column: str = "image"
    label_column: str = "label"
    test_splits: tuple[str, ...] = ("test",)
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    classes: tuple[str, ...] = ()
    photographs: bool = False

    @property
    def url(self) -> str:
        """Where people find its files."""
        return f"https://huggingface.co/datasets/{self.hub}" if self.hub else ""

    def has(self, classes: Sequence[str]) -> bool:
        """Whether classes can be those of this set: all of them, or a part that is known by its names.

        Numbers name nothing, and a pattern does not know the other names that people give the same classes.
        """
        count, listed = len(classes), len(self.classes) == self.num_classes
        own = re.compile("|".join(self.classes), re.IGNORECASE)
        if self.classes and all(own.fullmatch(name.replace(" ", "_")) for name in classes):
            return count <= self.num_classes
        return count == self.num_classes and (not listed or are_numbers(classes))

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.open is None):
            raise ValueError(f"data set {self.name!r} needs either `hub` or `open`")


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether classes have numbers for names, which do not tell one data set from another."""
    return all(name.isdecimal() for name in classes)


def register(spec: DatasetSpec) -> DatasetSpec:
    """Make a data set known by its name. Raises ValueError for a name that is taken."""
    return KNOWN.add(spec.name, spec)
