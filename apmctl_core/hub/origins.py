"""Which artifact of the store a revision on the Hub was, the last time somebody looked: for offline mode.

A commit never changes, so what is known of one is also good online.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.manifest import KINDS, is_id
from apmctl_core.artifacts.store import Store
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import make_folder, read_bounded, write_bytes

_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Origin:
    """What a revision was: its commit, and the kind and the id of the artifact in it."""

    commit: str
    kind: str
    id: str


def folder(store: Store) -> Path:
    """Where the store keeps what it knows of the Hub, and what is on its way; it may not exist yet."""
    return store.cache / "hub"


def lookup(store: Store, repo: str, revision: str, kind: str | None = None) -> tuple[Artifact, Origin] | None:
    """The sound artifact of the store that a revision was known to be."""
    for origin in _read(_path(store, repo)).get(revision, []):
        artifact = store.get(origin.kind, origin.id) if kind in (None, origin.kind) else None
        if artifact is not None:
            return artifact, origin
    return None


def record(store: Store, repo: str, revisions: tuple[str, ...], origin: Origin) -> None:
    """Remember what revisions are. A store that cannot be written forgets, which harms nobody."""
    path = _path(store, repo)
    known = _read(path)
    for revision in revisions:
        # A set and a pool may share a name: they are two repositories on the Hub.
        known[revision] = [origin, *(o for o in known.get(revision, []) if o.kind != origin.kind)]
    data = {revision: [vars(origin) for origin in origins] for revision, origins in known.items()}
    with contextlib.suppress(StoreError):
        make_folder(path.parent)
        write_bytes(path, json.dumps(data, indent=1, sort_keys=True).encode())


def _path(store: Store, repo: str) -> Path:
    return folder(store) / "origins" / f"{repo.replace('/', '--')}.json"


def _read(path: Path) -> dict[str, list[Origin]]:
    try:
        values = strict_json.parse_object(read_bounded(path, _MAX_BYTES), str(path))
        return {revision: [_origin(entry) for entry in entries] for revision, entries in values.items()}
    except (ArtifactError, StoreError, TypeError, ValueError):
        return {}


def _origin(entry: dict[str, str]) -> Origin:
    origin = Origin(**entry)
    if origin.kind not in KINDS or not is_id(origin.id):
        raise ValueError("not an origin")
    return origin
