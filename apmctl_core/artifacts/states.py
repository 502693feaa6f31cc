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
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import remove_tree

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NEWEST, _PREVIOUS = ".state.safetensors", ".state.prev.safetensors"
_KEY = "apmctl"  # one entry alone: the order of several is not fixed by every writer


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write the state `name` atomically, keeping the one before.

    Raises StoreError where the disk refuses (both states are then unchanged), NumericsError for a NaN in `meta`.
    """
    newest, previous = _paths(folder, name)
    try:
        text = json.dumps(dict(meta), sort_keys=True, allow_nan=False)
    except ValueError as e:
        raise NumericsError(f"the state {name!r} has a number that is not finite", "the last good state is kept") from e
    envelope = {"meta": text, "sha256": _checksum(tensors, text)}
    io.write(newest, tensors, {_KEY: json.dumps(envelope)}, previous=previous)


def load(folder: Path, name: str, emit: Emit = silent) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest state `name` that is whole, or None; a Note tells of a newer one that cannot be used."""
    for path in _paths(folder, name):
        if not path.exists():
            continue
        try:
            return _load(path)
        except ArtifactError as e:
            emit(Note(text=f"cannot use a saved state, trying an older one: {e.message}", level="warning"))
    return None


def clear(folder: Path, name: str) -> None:
    """Remove both generations of the state `name`. Raises StoreError."""
    for path in reversed(_paths(folder, name)):  # the newest last: an older one left alone would be used
        remove_tree(path)


def files(folder: Path) -> list[Path]:
    """The files of all states in a folder, the latest first."""
    states = [p for p in folder.glob("*.safetensors") if p.name.endswith((_NEWEST, _PREVIOUS))]
    return sorted(states, key=_modified, reverse=True)


def progress(folder: Path) -> dict[str, Any] | None:
    """The `progress` (done, total, unit) of the latest readable state, without reading any tensor."""
    for path in files(folder):
        try:
            meta, _ = _meta(io.read_header(path), path)
        except ArtifactError:
            continue
        latest = meta.get("progress")
        if isinstance(latest, dict) and _is_progress(latest):
            return latest
    return None


def _is_progress(value: dict[str, Any]) -> bool:
    numbers = [value.get("done"), value.get("total")]
    return all(type(n) in (int, float) for n in numbers) and isinstance(value.get("unit"), str)


def _modified(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a state")
    return folder / f"{name}{_NEWEST}", folder / f"{name}{_PREVIOUS}"


def _meta(header: io.Header, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    what = f"the state {path}"
    envelope = strict_json.parse_object(header.metadata.get(_KEY, "").encode(), what)
    if sorted(envelope) != ["meta", "sha256"] or not isinstance(envelope["meta"], str):
        raise ArtifactError(f"{what} has no checksum")
    return strict_json.parse_object(envelope["meta"].encode(), what), envelope


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = io.read(path)
    meta, envelope = _meta(io.Header({}, metadata), path)
    if envelope["sha256"] != _checksum(tensors, envelope["meta"]):
        raise ArtifactError(f"the state {path} does not agree with its checksum")
    return tensors, meta


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\0{name}\0{io.dtype_name(tensor)}\0{list(tensor.shape)}\0".encode())
        total.update(io.raw_bytes(tensor))
    return total.hexdigest()
