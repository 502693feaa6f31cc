"""Data sets of the Hugging Face Hub, through `datasets`.

The Hub is asked for the repository first, with a short time-out and no retries: `datasets` itself retries for half a
minute before it says that there is no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apmctl_core.data.columns import detect, label_values, payloads
from apmctl_core.data.source import DatasetSpec, Payload, Rows, Source
from apmctl_core.errors import DataError, NetworkError
from apmctl_core.events import Emit, Note
from apmctl_core.formats.registry import layouts
from apmctl_core.network import clients
from apmctl_core.network.clients import is_offline, shown, supervised
from apmctl_core.network.references import Reference

_BATCH = 64
_TIMEOUT_S = 10.0


def translate(error: Exception, repo: str, spec: DatasetSpec | None = None) -> BaseException:
    """The error for a failure of the Hub's clients: NetworkError, or DataError for what is not a data set.

    The way out of the former is the files themselves, those of a known set at its address.
    """
    failure = clients.translate(error, f"data set {repo}")
    if isinstance(failure, NetworkError):
        origin = f" from {spec.url}" if spec is not None else ""
        failure.hint += f"; or give its files{origin} on disk with `data_path`: {layouts()}"
    if failure is not None:
        return failure
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"cannot store the download of '{repo}': {shown(error)}", "HF_HOME says where downloads go")
    return DataError(
        f"'{repo}' cannot be loaded as a data set of images: {shown(error)}",
        "download its parquet files and give their folder as the data set",
    )


def _revision(hub: Reference) -> str | None:
    """The commit to load, which the Hub is asked for; None offline, where `datasets` looks into its own cache."""
    from huggingface_hub import HfApi

    if is_offline():
        return hub.revision
    info = HfApi().dataset_info(hub.repo, revision=hub.revision, timeout=_TIMEOUT_S)
    return str(info.sha) if info.sha else hub.revision


def _download(hub: Reference, spec: DatasetSpec | None, emit: Emit) -> tuple[Any, str | None]:
    try:
        with supervised(emit):
            revision = _revision(hub)
        emit(Note(text=f"loading {hub.repo} from the Hub"))
        import datasets  # a second; it must be there for `supervised` to keep it quiet

        with supervised(emit, data=True):
            return datasets.load_dataset(hub.repo, revision=revision), revision
    except Exception as error:  # three libraries and their HTTP backends
        raise translate(error, hub.repo, spec) from error


def choose_splits(names: list[str], spec: DatasetSpec | None, wanted: str = "") -> tuple[str, list[str]]:
    """The training split and the candidates for testing, the best first, after the one `wanted`.

    Raises DataError without a training split.
    """
    train = "train" if "train" in names else names[0] if len(names) == 1 else None
    if train is None:
        raise DataError(f"there is no training split among: {', '.join(names) or '(none)'}", "it must be named 'train'")
    order = spec.test_splits if spec is not None else ("test", "validation", "valid", "val")
    return train, [name for name in dict.fromkeys((wanted, *order)) if name in names and name != train]


def _batches(column: Any, folder: Path) -> Iterator[list[Payload]]:
    for table in column.iter(batch_size=_BATCH):
        for chunk in table.column(0).chunks:
            yield payloads(chunk, folder)


def _rows(split: Any, labels: np.ndarray, column: str, name: str, repo: str) -> Rows:
    import datasets

    images, folder = _column(split, column), Path(datasets.config.HF_CACHE_HOME)
    where = f"split '{name}' of {repo}"
    return Rows(labels, lambda: _batches(images, folder), lambda i: f"image {i} of {where}", name)


def _column(split: Any, name: str) -> Any:
    return split.select_columns([name]).with_format("arrow")


def open_hub(hub: Reference, spec: DatasetSpec | None, emit: Emit, wanted: str = "") -> Source:
    """Download a data set with `datasets` and open it, with the split `wanted`; it stays in the cache of `datasets`.

    Raises NetworkError if the Hub cannot be reached or refuses, DataError if there is no such data set or it has no
    images with labels.
    """
    loaded, revision = _download(hub, spec, emit)
    train, tests = choose_splits(list(loaded), spec, wanted)
    columns = detect(loaded[train].features.arrow_schema, spec)
    tests = [name for name in tests if {columns.image, columns.label} <= set(loaded[name].column_names)]
    splits = [train, *tests]
    labels = [_column(loaded[name], columns.label)[:].column(0) for name in splits]
    values, names = label_values(labels, columns.label, columns.names)
    rows = [_rows(loaded[name], v, columns.image, name, hub.repo) for name, v in zip(splits, values, strict=True)]
    return Source(rows[0], tuple(rows[1:]), names, f"Hub {hub.repo}@{revision or 'cache'}")
