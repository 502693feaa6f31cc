"""Which artifact of the store a revision on the Hub was when it was last seen: for offline mode.

A commit never changes, so its record is also good online.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.manifest import Id, convert
from apmctl_core.artifacts.store import Store
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import make_folder, read_bounded, write_bytes

_MAX_BYTES = 4 << 20


class Origin(msgspec.Struct, frozen=True):
    """What a revision was: its commit, and the kind and the id of the artifact in it."""

    commit: str
    kind: str
    id: Id


def folder(store: Store) -> Path:
    """Where the store keeps its records of the Hub, and downloads in progress; it may not exist yet."""
    return store.cache / "hub"


def lookup(store: Store, repo: str, revision: str, kind: str | None = None) -> tuple[Artifact, Origin] | None:
    """The sound artifact of the store that a revision was known to be."""
    for origin in _read(_path(store, repo)).get(revision, []):
        artifact = store.get(origin.kind, origin.id) if kind in (None, origin.kind) else None
        if artifact is not None:
            return artifact, origin
    return None


def record(store: Store, repo: str, revisions: tuple[str, ...], origin: Origin) -> None:
    """Remember what revisions are. A read-only store forgets, which is harmless."""
    path = _path(store, repo)
    known = _read(path)
    for revision in revisions:
        # A set and a pool may share a name: they are two repositories on the Hub.
        known[revision] = [origin, *(o for o in known.get(revision, []) if o.kind != origin.kind)]
    with contextlib.suppress(StoreError):
        make_folder(path.parent)
        write_bytes(path, msgspec.json.format(msgspec.json.encode(known, order="deterministic"), indent=1))


def _path(store: Store, repo: str) -> Path:
    return folder(store) / "origins" / f"{repo.replace('/', '--')}.json"


def _read(path: Path) -> dict[str, list[Origin]]:
    try:
        values = strict_json.parse_object(read_bounded(path, _MAX_BYTES), str(path))
        known = convert(values, dict[str, list[Origin]], str(path))
    except (ArtifactError, StoreError):
        return {}
    return {revision: [o for o in origins if o.kind in KINDS] for revision, origins in known.items()}
