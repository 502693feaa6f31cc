"""Data sets of the Hugging Face Hub, through `datasets`.

The Hub is asked for the repository first, with a short time-out and no retries: `datasets` itself retries for half a
minute before it says that there is no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apmctl_core.data.columns import Columns, concat, detect, label_values, payloads
from apmctl_core.data.request import Hub
from apmctl_core.data.rows import Payload, Rows, Source
from apmctl_core.data.spec import DatasetSpec
from apmctl_core.errors import ApmError, DataError, NetworkError
from apmctl_core.events import Emit, Note
from apmctl_core.network.clients import bounded, chain, is_network, listening, shown

_BATCH = 64
_TIMEOUT_S = 10.0
_LOCAL = "or give the data set on disk with --data DIR"


def _not_there(repo: str) -> DataError:
    return DataError(
        f"there is no data set '{repo}' on the Hub, or it is private",
        "check the name, or log in with `hf auth login`",
    )


def _translate_one(error: BaseException, repo: str) -> ApmError | None:
    from huggingface_hub import errors as hub
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if isinstance(error, hub.GatedRepoError):  # before its base, RepositoryNotFoundError
        return NetworkError(
            f"the data set '{repo}' is gated",
            f"accept its terms at https://huggingface.co/datasets/{repo}, then `hf auth login`; {_LOCAL}",
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return DataError(f"'{repo}' has no such revision", "check what follows the @")
    if isinstance(error, hub.RepositoryNotFoundError) or type(error).__name__ == "DatasetNotFoundError":
        return _not_there(repo)
    if isinstance(error, hub.OfflineModeIsEnabled) or (HF_HUB_OFFLINE and is_network(error)):
        return NetworkError(
            f"'{repo}' is not on this machine, and offline mode is on", f"unset HF_HUB_OFFLINE; {_LOCAL}"
        )
    if isinstance(error, hub.HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            return NetworkError(
                f"the Hub refuses access to '{repo}' ({status})", f"log in with `hf auth login`; {_LOCAL}"
            )
        return NetworkError(
            f"the Hub answers for '{repo}' with an error: {status or shown(error)}", f"try later, {_LOCAL}"
        )
    return None


def translate(error: Exception, repo: str) -> ApmError:
    """The error for a failure of the Hub's clients: DataError for what is missing or odd, else NetworkError."""
    causes = list(chain(error))
    for cause in causes:
        found = _translate_one(cause, repo)
        if found is not None:
            return found
    if any(is_network(cause) for cause in causes):
        return NetworkError(
            f"the Hub cannot be reached for '{repo}': {shown(causes[-1])}", f"check the network, {_LOCAL}"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"cannot store the download of '{repo}': {shown(error)}", "HF_HOME says where downloads go")
    return DataError(
        f"'{repo}' cannot be loaded as a data set of images: {shown(error)}",
        "download its parquet files and give their folder as the data set",
    )


def _revision(hub: Hub) -> str | None:
    """The commit to load, which the Hub is asked for; None offline, where `datasets` looks into its own cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return hub.revision
    info = HfApi().dataset_info(hub.repo, revision=hub.revision, timeout=_TIMEOUT_S)
    return str(info.sha) if info.sha else hub.revision


def _download(hub: Hub, emit: Emit) -> tuple[Any, str | None]:
    try:
        with listening(emit):
            revision = _revision(hub)
        emit(Note(text=f"loading {hub.repo} from the Hub"))
        import datasets  # a second; it must be there for `listening` to keep it quiet

        with listening(emit), bounded():
            return datasets.load_dataset(hub.repo, revision=revision), revision
    except ApmError:
        raise
    except Exception as error:  # three libraries and their HTTP backends
        raise translate(error, hub.repo) from error


def choose_splits(names: list[str], spec: DatasetSpec | None) -> tuple[str, list[str]]:
    """The training split and the candidates for testing, the best first. Raises DataError without a training split."""
    train = "train" if "train" in names else names[0] if len(names) == 1 else None
    if train is None:
        raise DataError(f"there is no training split among: {', '.join(names) or '(none)'}", "it must be named 'train'")
    order = spec.test_splits if spec is not None else ("test", "validation", "valid", "val")
    return train, [name for name in order if name in names and name != train]


def _column(split: Any, name: str) -> Any:
    tables = split.select_columns([name]).with_format("arrow").iter(batch_size=10_000)
    return concat(table.column(name) for table in tables)


def _batches(split: Any, name: str, folder: Path) -> Callable[[], Iterator[list[Payload]]]:
    def batches() -> Iterator[list[Payload]]:
        for table in split.select_columns([name]).with_format("arrow").iter(batch_size=_BATCH):
            for chunk in table.column(name).chunks:
                yield payloads(chunk, folder)

    return batches


def _rows(split: Any, labels: np.ndarray, columns: Columns, what: str) -> Rows:
    import datasets

    folder = Path(datasets.config.HF_CACHE_HOME)
    return Rows(labels, _batches(split, columns.image, folder), lambda i: f"image {i} of {what}")


def open_hub(hub: Hub, spec: DatasetSpec | None, emit: Emit) -> Source:
    """Download a data set with `datasets` and open it; it stays in the cache of `datasets`.

    Raises NetworkError if the Hub cannot be reached or refuses, DataError if there is no such data set or it has no
    images with labels.
    """
    loaded, revision = _download(hub, emit)
    train, tests = choose_splits(list(loaded), spec)
    columns = detect(loaded[train].features.arrow_schema, spec)
    tests = [name for name in tests if {columns.image, columns.label} <= set(loaded[name].column_names)]
    splits = [train, *tests]
    values, names = label_values([_column(loaded[s], columns.label) for s in splits], columns.label, columns.names)
    rows = [
        _rows(loaded[s], labels, columns, f"split '{s}' of {hub.repo}")
        for s, labels in zip(splits, values, strict=True)
    ]
    return Source(rows[0], tuple(rows[1:]), names, f"Hub {hub.repo}@{revision or 'cache'}")
