"""From a name to a data set: from the cache if it is there, else decoded into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from apmctl_core.data import cache as store
from apmctl_core.data.dataset import Dataset
from apmctl_core.data.labels import Assembled, assemble
from apmctl_core.data.request import Request, parse
from apmctl_core.data.rows import Source
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.network.references import Reference


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
        found = store.read(meta.parent, name or meta.parent.name)
        if found is not None and found.fingerprint == fingerprint:
            return found
    return None


def _open(request: Request, emit: Emit) -> Source:
    if request.place is None:
        from apmctl_core.data.sources.digits import open_digits

        return open_digits()
    if isinstance(request.place, Reference):
        from apmctl_core.data.sources.hub import open_hub

        return open_hub(request.place, request.spec, emit)
    from apmctl_core.data.sources.local import open_local

    return open_local(request.place, request.name, request.spec, emit)


def _compare(request: Request, data: Assembled, emit: Emit) -> None:
    """Say where a known set is not the full one: numbers on a part do not compare with published ones."""
    spec = request.spec
    if spec is None:
        return
    expected = (spec.num_classes, spec.train, spec.test)
    found = (len(data.classes), data.count(test=False), data.count(test=True))
    if found != expected:
        text = "{:,} classes, {:,} training and {:,} test images"
        note = f"this copy of {request.name} has {text.format(*found)}; the full set has {text.format(*expected)}"
        emit(Note(text=note, level="warning"))


@contextlib.contextmanager
def _locked(folder: Path, emit: Emit) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    with store.storing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            emit(Note(text="another process is decoding this data set: waiting for it"))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _decode(request: Request, folder: Path, emit: Emit) -> None:
    from apmctl_core.data.build import build, choose_format

    source = _open(request, emit)
    data = assemble(source, emit)
    _compare(request, data, emit)
    fmt = choose_format(source.train, request.spec, request.resolution)
    about = {"name": request.name, "resolution": request.resolution, "origin": source.origin}
    build(data, fmt, folder, about, emit)


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
    found = store.read(folder, name)
    if found is not None:
        return found
    with _locked(folder, emit):
        found = store.read(folder, name)  # by whoever held the lock
        if found is not None:
            return found
        store.sweep(folder.parent, folder.name)
        if folder.exists():
            emit(Note(text=f"the cached copy of {name} is damaged: decoding it again", level="warning"))
        _decode(request, folder, emit)
    found = store.read(folder, name)
    if found is None:
        raise DataError(f"the cached copy of {name} is damaged right after it was written", "check the disk")
    return found
