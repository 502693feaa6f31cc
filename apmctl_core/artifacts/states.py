"""States of an unfinished run: under each name the newest and the one before, each with its own checksum.

A state is one safetensors file whose metadata hold plain values as JSON. If a crash has torn the newest file, its
checksum does not match and the one before is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apmctl_core.errors import ArtifactError, NumericsError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import make_folder, remove_tree
from apmctl_core.storage.tensors import read_header

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NEWEST, _PREVIOUS = ".state.safetensors", ".state.prev.safetensors"
_PROGRESS = {"done": (int, float), "total": (int, float), "unit": (str,)}
_KEY = "apmctl"  # one entry alone: the order of several is not fixed by every writer


class States:
    """The states in a folder, which is created when it is first needed."""

    def __init__(self, folder: Path, emit: Emit = silent) -> None:
        self._folder = folder
        self._emit = emit

    @property
    def path(self) -> Path:
        """The folder, which exists from now on. Raises StoreError."""
        make_folder(self._folder)
        return self._folder

    @property
    def resumed(self) -> bool:
        """Whether there is a state to resume from."""
        return bool(files(self._folder))

    def save_state(self, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write a state atomically, keeping the one before; the `progress` in `meta` is what `Store.runs` shows.

        Raises StoreError where the disk refuses (both states are then unchanged), NumericsError for a NaN in `meta`.
        """
        from apmctl_core.storage import tensors as io

        newest, previous = _paths(self.path, name)
        try:
            text = json.dumps(dict(meta), allow_nan=False)
        except ValueError as e:
            problem = f"the state {name!r} has a number that is not finite"
            raise NumericsError(problem, "the last good state is kept") from e
        envelope = json.dumps({"meta": text, "sha256": _checksum(tensors, text)})
        io.write(newest, tensors, {_KEY: envelope}, previous=previous)

    def load_state(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest state of that name that is whole, or None; a Note tells of a newer one that cannot be used."""
        for path in filter(Path.exists, _paths(self._folder, name)):
            try:
                return _load(path)
            except ArtifactError as e:
                self._emit(Note(text=f"cannot use a saved state, trying an older one: {e.message}", level="warning"))
        return None

    def clear_state(self, name: str) -> None:
        """Remove both generations of a state. Raises StoreError."""
        for path in reversed(_paths(self._folder, name)):  # the newest last: an older one left alone would be used
            remove_tree(path)


def files(folder: Path) -> list[Path]:
    """The files of all states in a folder, the latest first."""
    states = [p for p in folder.glob("*.safetensors") if p.name.endswith((_NEWEST, _PREVIOUS))]
    return sorted(states, key=lambda path: (modified(path), path.name), reverse=True)


def progress(folder: Path) -> dict[str, Any] | None:
    """The `progress` (done, total, unit) of the latest readable state, without reading any tensor."""
    for path in files(folder):
        try:
            latest = _meta(read_header(path).metadata, path)[0].get("progress")
        except ArtifactError:
            continue
        if isinstance(latest, dict) and all(type(latest.get(name)) in types for name, types in _PROGRESS.items()):
            return latest
    return None


def modified(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 where it is missing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a state")
    return folder / f"{name}{_NEWEST}", folder / f"{name}{_PREVIOUS}"


def _meta(metadata: Mapping[str, str], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    what = f"the state {path}"
    envelope = strict_json.parse_object(metadata.get(_KEY, "").encode(), what)
    if sorted(envelope) != ["meta", "sha256"] or not isinstance(envelope["meta"], str):
        raise ArtifactError(f"{what} has no checksum")
    return strict_json.parse_object(envelope["meta"].encode(), what), envelope


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from apmctl_core.storage import tensors as io

    tensors, metadata = io.read(path)
    meta, envelope = _meta(metadata, path)
    if envelope["sha256"] != _checksum(tensors, envelope["meta"]):
        raise ArtifactError(f"the state {path} does not agree with its checksum")
    return tensors, meta


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    from apmctl_core.storage import tensors as io

    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\0{name}\0{io.dtype_name(tensor)}\0{list(tensor.shape)}\0".encode())
        total.update(io.raw_bytes(tensor))
    return total.hexdigest()
