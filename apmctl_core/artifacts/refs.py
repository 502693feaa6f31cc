"""What a user may call an artifact: a name, `name@id`, or a unique prefix of an id."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TypeVar

from apmctl_core.artifacts import differences, states
from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact, Entry
from apmctl_core.errors import ArtifactError

_E = TypeVar("_E", bound=Entry)
_PREFIX = re.compile(r"[0-9a-f]{4,12}")
_LISTED = 8


def fitting(ref: str, entries: Sequence[Entry], kind: str | None = None) -> list[Entry]:
    """The entries of a kind that `ref` could mean. Raises ArtifactError where there is none (with near ones)."""
    candidates = matching(ref, [e for e in entries if e.finished]) or matching(ref, entries)
    suitable = [e for e in candidates if kind in (None, e.kind)]
    if not candidates:
        raise _missing(ref, entries, kind)
    if not suitable:
        raise ArtifactError(f"{candidates[0].ref} is a {candidates[0].kind}, not a {kind}", f"give the {kind} to use")
    return suitable


def only(ref: str, fitting: Sequence[Entry]) -> Entry:
    """The one entry that fits. Raises ArtifactError where there are several."""
    if len(fitting) > 1:
        raise ambiguous(ref, fitting)
    return fitting[0]


def matching(ref: str, entries: Sequence[_E]) -> list[_E]:
    """All entries that `ref` could mean."""
    name, at, prefix = ref.rpartition("@")
    if at:
        return [e for e in entries if e.name == name and prefix and e.id.startswith(prefix)]
    by_name = [e for e in entries if e.name == ref]
    if by_name or not _PREFIX.fullmatch(ref):
        return by_name
    return [e for e in entries if e.id.startswith(ref)]


def _missing(ref: str, entries: Sequence[Entry], kind: str | None) -> ArtifactError:
    what = kind or "artifact"
    names = sorted({e.name for e in entries if e.finished and kind in (None, e.kind)})
    near = difflib.get_close_matches(ref.rpartition("@")[0] or ref, names, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ArtifactError(f"there is no {what} {ref!r} in the store", f"{hint}`list` shows what is in it")


def ambiguous(ref: str, entries: Sequence[Entry]) -> ArtifactError:
    """The error for a reference that means several."""
    ordered = sorted(entries, key=lambda e: states.modified(e.path / manifests.FILE_NAME), reverse=True)
    listed = ", ".join(f"{e.ref} ({e.kind})" for e in ordered[:_LISTED])
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ArtifactError(f"{ref!r} could be {listed}{more}", f"name one of them; the newest is {ordered[0].ref}")


def age(artifact: Artifact) -> tuple[float, int]:
    """What orders artifacts by when they were made."""
    return artifact.manifest.created or 0.0, states.modified(artifact.path / manifests.FILE_NAME)


def told(name: str, ordered: Sequence[Artifact]) -> str:
    """Which of several artifacts of a name is meant, and how it differs from the others."""
    newest, *others = ordered
    kinds = dict.fromkeys(other.kind for other in others)
    if kinds.keys() != {newest.kind}:
        different = f"a {newest.kind} (others: {', '.join(kinds)})"
    else:
        different = differences.told(newest.manifest, [other.manifest for other in others])
    counted = f"{len(ordered)} artifacts are named {name}; using the newest, {newest.ref}"
    return f"{counted}: {different}" if different else counted
