"""Parquet files: images as encoded bytes, in the Hub's layout or close to it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from apmctl_core.data.columns import detect, label_values, payloads
from apmctl_core.data.source import DatasetSpec, Listing, Payload, Rows, Source, joined
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note
from apmctl_core.formats.registry import FileFormat, register

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 64  # images held at a time: with large photographs even these are some hundred MB
_WORDS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
_SUFFIXES = frozenset({".parquet"})
_SPLIT = re.compile(r"(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")(?![a-z])")


def split_of(path: PurePosixPath) -> str | None:
    """train, test or validation after the first word of a file's name, else of its folder's name."""
    for name in (path.name, path.parent.name):
        match = _SPLIT.match(name.lower())
        if match:
            return _WORDS[match[1]]
    return None


def group_splits(paths: Sequence[PurePosixPath], emit: Emit) -> dict[str, list[PurePosixPath]]:
    """The files of each split; files that name no split are all training files if none names one.

    Raises DataError if there are no training files, or if the splits lie in several folders, of which one must be
    chosen.
    """
    groups: dict[str, list[PurePosixPath]] = {}
    nameless = [path for path in paths if split_of(path) is None]
    for path in paths:
        groups.setdefault(split_of(path) or "", []).append(path)
    if len(nameless) == len(paths):
        return {"train": list(paths)}
    if nameless:
        emit(Note(text=f"{nameless[0]} is left out: its name does not begin with a split", level="warning"))
        del groups[""]
    if "train" not in groups:
        raise DataError(f"there is no training split among {', '.join(map(str, paths[:5]))}", "name it train-*.parquet")
    parents = sorted({_configuration(p) for p in groups["train"]})
    if len(parents) > 1:
        raise DataError(f"there are several data sets: {', '.join(parents)}", "give the folder of one of them")
    return groups


def _configuration(path: PurePosixPath) -> str:
    # The Hub's converted files lie in CONFIGURATION/train/0000.parquet, others in CONFIGURATION/train-*.parquet.
    own_folder = _SPLIT.match(path.parent.name.lower()) and not _SPLIT.match(path.name.lower())
    return str(path.parent.parent if own_folder else path.parent)


@contextlib.contextmanager
def _open(path: Path, column: str = "") -> Iterator[pq.ParquetFile]:
    """An open file that has the column, if one is given; errors of pyarrow in the block mean that it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre-buffering a row group is streamed and need not fit into memory.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if column and column not in file.schema_arrow.names:
                raise DataError(f"{path} has no column '{column}'", "all files need the same columns")
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} is not a sound parquet file: {reason}", "download it again") from error


def _read_labels(path: Path, column: str) -> pa.ChunkedArray:
    with _open(path, column) as file:
        return file.read([column]).column(column)


def _batches(path: Path, column: str) -> Iterator[list[Payload]]:
    with _open(path, column) as file:
        for batch in file.iter_batches(BATCH, columns=[column], use_threads=False):
            yield payloads(batch.column(0))


def _rows(path: Path, column: str, labels: np.ndarray) -> Rows:
    return Rows(labels, lambda: _batches(path, column), lambda i: f"row {i} of {path}")


def open_parquet(listing: Listing, spec: DatasetSpec | None, emit: Emit) -> Source:
    """Open parquet files, whose names tell the splits apart (train-*, test-*, val*, valid*).

    Classes are named by the metadata of `datasets` if there is any; else by the text labels, sorted, or the numbers.
    Raises DataError for damaged files, missing columns and missing splits.
    """
    root, paths = listing.root, listing.with_suffix(_SUFFIXES)
    groups = {"train": list(paths)} if listing.whole else group_splits(paths, emit)
    with _open(root / groups["train"][0]) as first:
        columns = detect(first.schema_arrow, spec)
    tests = [word for word in ("test", "validation") if word in groups]
    if spec is not None and "validation" in spec.test_splits:  # its own test split has no labels
        tests.reverse()
    splits = ["train", *tests]
    files = [(word, root / path) for word in splits for path in groups[word]]
    labels = [_read_labels(path, columns.label) for _, path in files]
    values, names = label_values(labels, columns.label, columns.names)
    rows = [(word, _rows(path, columns.image, v)) for (word, path), v in zip(files, values, strict=True)]
    train, *others = (replace(joined(*(part for of, part in rows if of == word)), name=word) for word in splits)
    return Source(train, tuple(others), names, f"parquet in {root}")


register(
    FileFormat(name="parquet", open=open_parquet, suffixes=_SUFFIXES, single_file=True, order=10, holds="parquet files")
)
