"""From a name to a data set: read from the cache, or decoded into it the first time."""

from __future__ import annotations

from pathlib import Path

from apmctl_core.data import cache as store
from apmctl_core.data import known  # noqa: F401  # registers the known data sets
from apmctl_core.data.dataset import Dataset
from apmctl_core.data.labels import Assembled, assemble
from apmctl_core.data.source import Listing, Source
from apmctl_core.data.request import Request, parse
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.formats.registry import open_local
from apmctl_core.network.references import Reference
from apmctl_core.storage.files import sweep
from apmctl_core.storage.locks import hold


def _folder(cache: Path, request: Request) -> Path:
    return cache / "data" / request.key


def find_cached(name: str, cache: Path, *, path: Path | None = None, resolution: int | None = None) -> Dataset | None:
    """The data set if it is in the cache and sound, else None; decodes nothing, asks no network, needs no torch.

    Arguments and errors as in `load`.
    """
    request = parse(name, path, resolution)
    return store.read(_folder(cache, request), name)


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
    counts = (len(data.classes), data.count(test=False), data.count(test=True))
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
    folder = _folder(cache, request)
    dataset = store.read(folder, name)
    if dataset is None:
        with hold(folder.parent, folder.name, f"decoding {name}", emit=emit):
            dataset = store.read(folder, name)  # another process may have decoded it meanwhile
            if dataset is None:
                dataset = _decode(request, folder, emit)
    return dataset
