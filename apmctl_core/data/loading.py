"""From a name to a data set: what the user asks for, read from the cache, or decoded into it the first time."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import apmctl_core.data.known  # noqa: F401  # registers the known data sets
from apmctl_core.data import cache as store
from apmctl_core.data.checks import compare, require_known, require_size
from apmctl_core.data.dataset import Dataset
from apmctl_core.data.labels import Assembled, assemble
from apmctl_core.data.source import KNOWN, DatasetSpec, Listing, Source
from apmctl_core.data.splits import Asked, Place, asked, with_folder
from apmctl_core.data.walk import list_files
from apmctl_core.errors import ConfigError, DataError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.formats.registry import open_local
from apmctl_core.network import references
from apmctl_core.network.references import PREFIX, Reference
from apmctl_core.storage.files import sweep
from apmctl_core.storage.locks import hold

MAX_RESOLUTION = 4096


class Choices(TypedDict, total=False):
    """What is asked for beside a name.

    `path` is where a known or Hub data set lies on disk (parquet as on the Hub, torchvision's native CIFAR files, or
    class folders); `resolution` is the side in pixels to which images are scaled and cropped; `test_split` is
    `data.test_split`; `skip_broken` leaves out images that cannot be decoded.
    """

    path: Path | None
    resolution: int | None
    test_split: str | None
    skip_broken: bool


@dataclass(frozen=True)
class Request:
    """A checked request. `place` is the Hub, local files, or None for a data set that comes with a package.

    `resolution` is the side of the square images, None for the images' own; `wanted` the test split that was asked for;
    `key` names the folder in the cache.
    """

    name: str
    spec: DatasetSpec | None
    place: Place
    resolution: int | None
    wanted: Asked
    skip_broken: bool
    key: str

    @property
    def official(self) -> Sequence[str]:
        """The names of test splits that are taken without a word."""
        return self.spec.test_splits if self.spec is not None else ("test",)


def parse(
    name: str,
    path: Path | None = None,
    resolution: int | None = None,
    test_split: str | None = None,
    skip_broken: bool = False,
) -> Request:
    """Check a name, list its files if it is local, and derive the cache key; reads no data and no network.

    A known name wins over a folder of the same name (write ./name for that). Raises DataError for an unknown name or
    a missing path, ConfigError for a `path` or `resolution` that makes no sense.
    """
    if resolution is not None and not 1 <= resolution <= MAX_RESOLUTION:
        raise ConfigError(f"`data.resolution` must be between 1 and {MAX_RESOLUTION}, got {resolution}")
    spec = KNOWN.get(name)
    wanted, place = asked(test_split, _place(name, spec, path))
    if spec is not None and resolution is None:
        resolution = spec.shape[1]
    # The name matters only for known sets, which have their own shape, columns and splits.
    parts = [store.VERSION, spec and name, resolution, _identity(place)]
    if wanted.name:
        parts.append(["test", wanted.name, _identity(wanted.folder)])
    if skip_broken:
        parts.append("skip broken")
    identity = json.dumps(parts, separators=(",", ":"))
    stem = name.removeprefix(PREFIX) if isinstance(place, Reference) or spec else Path(name).resolve().name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40].lower() or "data"
    key = f"{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    return Request(name, spec, place, resolution, wanted, skip_broken, key)


def _place(name: str, spec: DatasetSpec | None, path: Path | None) -> Place:
    if spec is not None and spec.open is not None:
        if path is not None:
            raise ConfigError(f"`data_path` does not go with '{name}'", f"leave it out: {name} needs no files")
        return None
    if spec is None and not name.startswith(PREFIX):
        if path is not None:
            raise ConfigError("`data_path` does not go with a data set given as a path", "leave it out")
        if not name or "\0" in name or not is_path(name):
            raise _unknown(name)
        return list_files(Path(name))
    try:
        hub = references.parse(name) if spec is None else Reference(spec.hub or "")
    except ConfigError as e:
        raise DataError(f"'{name}' cannot name a Hub data set: {e.message}", "write hf:owner/name[@revision]") from e
    return list_files(path) if path is not None else hub


def is_path(name: str) -> bool:
    """Whether a name that is not known is that of files: written as a path, or of something in this folder."""
    try:
        return os.sep in name or name.startswith("~") or Path(name).exists()
    except (OSError, ValueError):  # a name that no path can have
        return False


def _unknown(name: str) -> DataError:
    """The error for a name that is neither known nor a path, with the nearest known one."""
    close = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    known = f"known names are {', '.join(KNOWN)}; hf:owner/name or a folder also work"
    return DataError(f"unknown data set '{name}'", f"did you mean '{close[0]}'? {known}" if close else known)


def _identity(place: Place) -> Any:
    if isinstance(place, Reference):
        return ["hub", place.repo, place.revision]
    if isinstance(place, Listing):
        return ["local", str(place.root), [[str(f.path), f.size, f.mtime_ns] for f in place.files]]
    return ["package"]


def find_cached(name: str, cache: Path, **choices: Unpack[Choices]) -> Dataset | None:
    """The data set if it is in the cache and sound, else None; decodes nothing, asks no network, needs no torch.

    Arguments and errors as in `load`.
    """
    if choices.get("skip_broken"):  # a copy with all images has none that would be left out
        every: Choices = {**choices, "skip_broken": False}
        whole = _cached(parse(name, **every), cache)
        if whole is not None:
            return whole
    return _cached(parse(name, **choices), cache)


def inspect(name: str, emit: Emit = silent, **choices: Unpack[Choices]) -> None:
    """Check the files and labels of a data set as `load` does before it decodes. Arguments and errors as in `load`."""
    data = _assembled(parse(name, **choices), emit)
    train, test = data.counts
    for note in data.tested.notes(train, test):
        emit(Note(text=note))


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
    wanted = request.wanted
    source = _open_place(request, emit)
    if wanted.folder is None:
        return source
    return with_folder(source, open_local(wanted.folder, request.spec, emit), wanted.name)


def _open_place(request: Request, emit: Emit) -> Source:
    if isinstance(request.place, Listing):
        return open_local(request.place, request.spec, emit)
    if isinstance(request.place, Reference):
        from apmctl_core.data.hub import open_hub

        return open_hub(request.place, request.spec, emit, request.wanted.name)
    assert request.spec is not None and request.spec.open is not None
    return request.spec.open()


def _assembled(request: Request, emit: Emit) -> Assembled:
    """The labels and the encoded images of a request. Raises DataError where they are not those of a known set."""
    data = assemble(_open(request, emit), emit, request.wanted, request.official)
    if request.place is None and not request.wanted.name:  # known by what it holds out
        data = replace(data, tested=replace(data.tested, told=False))
    require_known(request.spec, request.place, data.classes)
    require_size(request.spec, request.place, data)
    compare(request.spec, request.wanted, data, emit)
    return data


def _cached(request: Request, cache: Path) -> Dataset | None:
    """The copy of a request in the cache. Raises DataError for one of other data under a known name."""
    dataset = store.read(cache / "data" / request.key, request.name)
    if dataset is None or not (dataset.split is not None or _official(request.spec, dataset)):
        return None
    require_known(request.spec, request.place, dataset.classes)
    return dataset


def _official(spec: DatasetSpec | None, dataset: Dataset) -> bool:
    """Whether a copy that does not say what it tests on has the splits of a known set."""
    sizes = (len(dataset.train), len(dataset.test))
    return spec is not None and spec.open is None and sizes == (spec.train, spec.test)


def _decode(request: Request, folder: Path, emit: Emit) -> Dataset:
    from apmctl_core.data.build import build, choose_format

    sweep(folder.parent, folder.name)
    if folder.exists():
        text = f"the cached copy of {request.name} is damaged or of an older version: decoding it again"
        emit(Note(text=text, level="warning"))
    data = _assembled(request, emit)
    fmt = choose_format(data.rows, request.spec, request.resolution)
    about = {"name": request.name, "resolution": request.resolution, "origin": data.origin}
    build(data, fmt, folder, about, emit, skip_broken=request.skip_broken)
    dataset = store.read(folder, request.name)
    if dataset is None:
        raise DataError(f"the cached copy of {request.name} is damaged right after it was written", "check the disk")
    return dataset


def load(name: str, cache: Path, *, emit: Emit = silent, **choices: Unpack[Choices]) -> Dataset:
    """Load a data set, decoding it into `cache` the first time.

    `name` is a known one, `hf:owner/name[@revision]`, or the path of a folder of images or of parquet; `choices` are
    those of `Choices`. A set from the Hub stays as it was first loaded. Raises DataError for data that is unknown,
    missing, damaged, too small, or not the known set that it is called, NetworkError for the Hub, ConfigError for
    arguments that do not go together, StoreError for a cache that cannot be written.
    """
    request = parse(name, **choices)
    dataset = find_cached(name, cache, **choices)
    if dataset is None:
        folder = cache / "data" / request.key
        with hold(folder.parent, folder.name, f"decoding {name}", emit=emit):
            dataset = _cached(request, cache)  # another process may have decoded it meanwhile
            if dataset is None:
                dataset = _decode(request, folder, emit)
    return dataset
