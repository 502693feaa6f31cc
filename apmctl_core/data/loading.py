"""From a name to a data set: what the user asks for, read from the cache, or decoded into it the first time."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apmctl_core.data.known  # noqa: F401  # registers the known data sets
from apmctl_core.data import cache as store
from apmctl_core.data.dataset import Dataset
from apmctl_core.data.labels import Assembled, assemble
from apmctl_core.data.source import KNOWN, DatasetSpec, Listing, Source
from apmctl_core.data.walk import list_files
from apmctl_core.errors import ConfigError, DataError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.formats.registry import open_local
from apmctl_core.network import references
from apmctl_core.network.references import PREFIX, Reference
from apmctl_core.storage.files import sweep
from apmctl_core.storage.locks import hold

MAX_RESOLUTION = 4096


@dataclass(frozen=True)
class Request:
    """A checked request. `place` is the Hub, local files, or None for a data set that comes with a package.

    `resolution` is the side of the square images that was asked for, None for the images' own; `key` names the folder
    in the cache.
    """

    name: str
    spec: DatasetSpec | None
    place: Reference | Listing | None
    resolution: int | None
    key: str


def parse(name: str, path: Path | None, resolution: int | None) -> Request:
    """Check a name, list its files if it is local, and derive the cache key; reads no data and no network.

    A known name wins over a folder of the same name (write ./name for that). Raises DataError for an unknown name or
    a missing path, ConfigError for a `path` or `resolution` that makes no sense.
    """
    if resolution is not None and not 1 <= resolution <= MAX_RESOLUTION:
        raise ConfigError(f"`data.resolution` must be between 1 and {MAX_RESOLUTION}, got {resolution}")
    spec = KNOWN.get(name)
    place = _place(name, spec, path)
    if spec is not None and resolution is None:
        resolution = spec.shape[1]
    # The name matters only for known sets, which have their own shape, columns and splits.
    identity = json.dumps([store.VERSION, spec and name, resolution, _identity(place)], separators=(",", ":"))
    stem = name.removeprefix(PREFIX) if isinstance(place, Reference) or spec else Path(name).resolve().name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40].lower() or "data"
    return Request(name, spec, place, resolution, f"{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")


def _place(name: str, spec: DatasetSpec | None, path: Path | None) -> Reference | Listing | None:
    if spec is not None and spec.open is not None:
        if path is not None:
            raise ConfigError(f"`data_path` does not go with '{name}'", f"leave it out: {name} needs no files")
        return None
    if spec is None and not name.startswith(PREFIX):
        if path is not None:
            raise ConfigError("`data_path` does not go with a data set given as a path", "leave it out")
        if not name or "\0" in name or not _is_path(name):
            raise _unknown(name)
        return list_files(Path(name))
    try:
        hub = references.parse(name) if spec is None else Reference(spec.hub or "")
    except ConfigError as e:
        raise DataError(f"'{name}' cannot name a Hub data set: {e.message}", "write hf:owner/name[@revision]") from e
    return list_files(path) if path is not None else hub


def _is_path(name: str) -> bool:
    try:
        return os.sep in name or name.startswith("~") or Path(name).exists()
    except (OSError, ValueError):  # a name that no path can have
        return False


def _unknown(name: str) -> DataError:
    """The error for a name that is neither known nor a path, with the nearest known one."""
    close = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    known = f"known names are {', '.join(KNOWN)}; hf:owner/name or a folder also work"
    return DataError(f"unknown data set '{name}'", f"did you mean '{close[0]}'? {known}" if close else known)


def _identity(place: Reference | Listing | None) -> Any:
    if isinstance(place, Reference):
        return ["hub", place.repo, place.revision]
    if isinstance(place, Listing):
        return ["local", str(place.root), [[str(f.path), f.size, f.mtime_ns] for f in place.files]]
    return ["package"]


def find_cached(name: str, cache: Path, *, path: Path | None = None, resolution: int | None = None) -> Dataset | None:
    """The data set if it is in the cache and sound, else None; decodes nothing, asks no network, needs no torch.

    Arguments and errors as in `load`.
    """
    return store.read(cache / "data" / parse(name, path, resolution).key, name)


def find_fingerprint(fingerprint: str, cache: Path, *, name: str = "") -> Dataset | None:
    """The cached data set with this fingerprint, wherever it was read from, else None.

    `name` is the name that it gets. Equal fingerprints mean equal images, labels and class names.
    """
    for meta in sorted((cache / "data").glob("[!.]*/meta.json")):
        dataset = store.read(meta.parent, name or meta.parent.name)
        if dataset is not None and dataset.fingerprint == fingerprint:
            return dataset
    return None


def _open(request: Request, emit: Emit) -> Source:
    if isinstance(request.place, Listing):
        return open_local(request.place, request.spec, emit)
    if isinstance(request.place, Reference):
        from apmctl_core.data.hub import open_hub

        return open_hub(request.place, request.spec, emit)
    assert request.spec is not None and request.spec.open is not None
    return request.spec.open()


def _compare(request: Request, data: Assembled, emit: Emit) -> None:
    """Say where a known set is not the full one: numbers on a part do not compare with published ones."""
    spec = request.spec
    if spec is None:
        return
    full = (spec.num_classes, spec.train, spec.test)
    counts = (len(data.classes), int((~data.is_test).sum()), int(data.is_test.sum()))
    if counts != full:
        text = "{:,} classes, {:,} training and {:,} test images"
        note = f"this copy of {request.name} has {text.format(*counts)}; the full set has {text.format(*full)}"
        emit(Note(text=note, level="warning"))


def _decode(request: Request, folder: Path, emit: Emit) -> Dataset:
    from apmctl_core.data.build import build, choose_format

    sweep(folder.parent, folder.name)
    if folder.exists():
        emit(Note(text=f"the cached copy of {request.name} is damaged: decoding it again", level="warning"))
    source = _open(request, emit)
    data = assemble(source, emit)
    _compare(request, data, emit)
    fmt = choose_format(source.train, request.spec, request.resolution)
    about = {"name": request.name, "resolution": request.resolution, "origin": source.origin}
    build(data, fmt, folder, about, emit)
    dataset = store.read(folder, request.name)
    if dataset is None:
        raise DataError(f"the cached copy of {request.name} is damaged right after it was written", "check the disk")
    return dataset


def load(
    name: str, cache: Path, *, path: Path | None = None, resolution: int | None = None, emit: Emit = silent
) -> Dataset:
    """Load a data set, decoding it into `cache` the first time.

    `name` is a known one, `hf:owner/name[@revision]`, or the path of a folder of images or of parquet; `path` is where
    a known or Hub data set lies on disk (parquet as on the Hub, torchvision's native CIFAR files, or class folders);
    `resolution` is the side in pixels to which images are scaled and cropped. A set from the Hub stays as it was first
    loaded. Raises DataError for data that is unknown, missing, damaged or too small, NetworkError for the Hub,
    ConfigError for arguments that do not go together, StoreError for a cache that cannot be written.
    """
    request = parse(name, path, resolution)
    folder = cache / "data" / request.key
    dataset = store.read(folder, name)
    if dataset is None:
        with hold(folder.parent, folder.name, f"decoding {name}", emit=emit):
            dataset = store.read(folder, name)  # another process may have decoded it meanwhile
            if dataset is None:
                dataset = _decode(request, folder, emit)
    return dataset
