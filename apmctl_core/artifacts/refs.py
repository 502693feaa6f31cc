"""What a user may call an artifact: a name, `name@id`, a unique prefix of an id, or a path."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from apmctl_core.artifacts.artifact import Entry
from apmctl_core.artifacts.manifest import FILE_NAME
from apmctl_core.errors import ArtifactError

_PREFIX = re.compile(r"[0-9a-f]{4,12}")
_LISTED = 8


def as_path(ref: str) -> Path | None:
    """The folder that `ref` means, if it is written as a path."""
    if os.sep in ref or "/" in ref or ref in (".", "..") or ref.startswith("~"):
        path = Path(ref)
        with contextlib.suppress(RuntimeError):  # an unknown user
            path = path.expanduser()
        return path
    return None


def resolve(ref: str, entries: Sequence[Entry], kind: str | None = None) -> Entry:
    """The one entry that `ref` means. Raises ArtifactError where there is none (with near ones) or several."""
    candidates = matching(ref, [e for e in entries if e.finished]) or matching(ref, entries)
    fitting = [e for e in candidates if kind in (None, e.kind)]
    if not candidates:
        raise _missing(ref, entries, kind)
    if not fitting:
        raise ArtifactError(f"{candidates[0].ref} is a {candidates[0].kind}, not a {kind}", f"give the {kind} to use")
    if len(fitting) > 1:
        raise _ambiguous(ref, fitting)
    return fitting[0]


def matching(ref: str, entries: Sequence[Entry]) -> list[Entry]:
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


def _ambiguous(ref: str, entries: Sequence[Entry]) -> ArtifactError:
    ordered = sorted(entries, key=_written, reverse=True)
    listed = ", ".join(f"{e.ref} ({e.kind})" for e in ordered[:_LISTED])
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ArtifactError(f"{ref!r} could be {listed}{more}", f"name one of them; the newest is {ordered[0].ref}")


def _written(entry: Entry) -> int:
    try:
        return (entry.path / FILE_NAME).stat().st_mtime_ns
    except OSError:
        return 0
