"""What the user asks for: a name, where it lies and at which resolution, and the key of the cache for it."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apmctl_core.data.cache import VERSION
from apmctl_core.data.source import DatasetSpec, KNOWN, Listing
from apmctl_core.data.walk import list_files
from apmctl_core.errors import ConfigError, DataError
from apmctl_core.network import references
from apmctl_core.network.references import PREFIX, Reference

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


def _parse_hub(name: str) -> Reference:
    try:
        return references.parse(name)
    except ConfigError as e:
        raise DataError(f"'{name}' cannot name a Hub data set: {e.message}", "write hf:owner/name[@revision]") from e


def _is_path(name: str) -> bool:
    separators = [os.sep, "/", *([os.altsep] if os.altsep else [])]
    try:
        return any(s in name for s in separators) or name.startswith("~") or Path(name).exists()
    except (OSError, ValueError):  # a name that no path can have
        return False


def unknown(name: str) -> DataError:
    """The error for a name that is neither known nor a path, with the nearest known one."""
    close = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    known = f"known names are {', '.join(KNOWN)}; hf:owner/name or a folder also work"
    return DataError(f"unknown data set '{name}'", f"did you mean '{close[0]}'? {known}" if close else known)


def _check_resolution(resolution: int | None) -> None:
    if resolution is not None and not 1 <= resolution <= MAX_RESOLUTION:
        raise ConfigError(f"`data.resolution` must be between 1 and {MAX_RESOLUTION}, got {resolution}")


def _place(name: str, spec: DatasetSpec | None, path: Path | None) -> Reference | Listing | None:
    if spec is not None and spec.open is not None:
        if path is not None:
            raise ConfigError(f"`data_path` does not go with '{name}'", f"leave it out: {name} needs no files")
        return None
    if spec is None and not name.startswith(PREFIX):
        if path is not None:
            raise ConfigError("`data_path` does not go with a data set given as a path", "leave it out")
        if not name or "\0" in name or not _is_path(name):
            raise unknown(name)
        return list_files(Path(name))
    hub = Reference(spec.hub or "") if spec is not None else _parse_hub(name)
    return list_files(path) if path is not None else hub


def _identity(place: Reference | Listing | None) -> Any:
    if isinstance(place, Reference):
        return ["hub", place.repo, place.revision]
    if isinstance(place, Listing):
        return ["local", str(place.root), [[str(f.path), f.size, f.mtime_ns] for f in place.files]]
    return ["package"]


def parse(name: str, path: Path | None, resolution: int | None) -> Request:
    """Check a name, list its files if it is local, and derive the cache key; reads no data and no network.

    A known name wins over a folder of the same name (write ./name for that). Raises DataError for an unknown name or
    a missing path, ConfigError for a `path` or `resolution` that makes no sense.
    """
    _check_resolution(resolution)
    spec = KNOWN.get(name)
    place = _place(name, spec, path)
    if spec is not None and resolution is None:
        resolution = spec.shape[1]
    # The name matters only for known sets, which have their own shape, columns and splits.
    known = name if spec is not None else None
    identity = json.dumps([VERSION, known, resolution, _identity(place)], separators=(",", ":"))
    stem = name.removeprefix(PREFIX) if isinstance(place, Reference) or spec else Path(name).resolve().name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40].lower() or "data"
    return Request(name, spec, place, resolution, f"{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")
