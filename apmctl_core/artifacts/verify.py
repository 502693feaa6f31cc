"""Whether an artifact is what its manifest says: structure, values, and the sha256 of every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.errors import ArtifactError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.storage.files import DAMAGED_HINT, disk_errors, open_regular, sha256_of
from apmctl_core.storage.strict_json import parse_object

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.pools import ShapesOf

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_LINE = 1 << 20
_MAX_LISTED = 20


def verify(artifact: Artifact, shapes: ShapesOf | None = None, *, strays: bool = True) -> list[str]:
    """Everything that is wrong with an artifact, one line each; nothing where it is sound.

    Checks every sha256, that nothing else lies in the folder (unless `strays` is false), and every value as loading
    does. `shapes` gives the weights that a pool's network must have (default: those of the registry). Memory does not
    grow with a set. Raises StoreError where it cannot read.
    """
    found = [f"{name} is not in the manifest" for name in _strays(artifact)] if strays else []
    for name, entry in sorted(artifact.manifest.files.items()):
        found += _problems(lambda n=name, e=entry: _check_sha256(artifact, n, e.sha256))  # type: ignore[misc]
    checks: dict[str, Callable[[], None]] = {
        "pool": lambda: _check_pool(artifact, shapes),
        "set": lambda: _check_set(artifact),
        "report": lambda: _check_report(artifact),
    }
    found += _problems(checks[artifact.kind])
    if "events.jsonl" in artifact.manifest.files:
        found += _problems(lambda: _check_events(artifact.file("events.jsonl")))
    return found


def require_sound(
    artifact: Artifact, shapes: ShapesOf | None = None, *, strays: bool = True, emit: Emit = silent
) -> None:
    """Raise ArtifactError with the first of what `verify` finds, if it finds anything; the others are warnings."""
    found = verify(artifact, shapes, strays=strays)
    if found:
        for problem in found[1:]:
            emit(Note(text=f"{artifact.ref}: {problem}", level="warning"))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ArtifactError(f"{artifact.ref} is damaged: {found[0]}{more}", DAMAGED_HINT)


def _problems(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except ArtifactError as e:
        return [e.message]
    return []


def _strays(artifact: Artifact) -> Iterator[str]:
    known = {*artifact.manifest.files, manifests.FILE_NAME}
    with disk_errors(artifact.path, "read"), os.scandir(artifact.path) as entries:
        names = sorted(entry.name for entry in entries if entry.name not in known)
    yield from (repr(name) for name in names[:_MAX_LISTED])


def _check_sha256(artifact: Artifact, name: str, expected: str) -> None:
    if sha256_of(artifact.file(name)) != expected:
        raise ArtifactError(f"{name} is not the file that was written: its sha256 differs")


def _check_pool(artifact: Artifact, shapes: ShapesOf | None) -> None:
    from apmctl_core.artifacts.kinds.pools import load_pool
    from apmctl_core.models.registry import state_shapes

    for _ in load_pool(artifact, shapes or state_shapes).states:
        pass


def _check_set(artifact: Artifact) -> None:
    from apmctl_core.artifacts.kinds.sets import check_values

    check_values(artifact)
    if "preview.png" in artifact.manifest.files:
        with open_regular(artifact.file("preview.png")) as file:
            if file.read(len(_PNG)) != _PNG:
                raise ArtifactError("preview.png is not a PNG")


def _check_report(artifact: Artifact) -> None:
    from apmctl_core.artifacts.kinds.reports import load_report

    load_report(artifact)


def _check_events(path: Path) -> None:
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if not line.endswith(b"\n"):
                raise ArtifactError(f"line {number} of {path.name} does not end")
            parse_object(line, f"line {number} of {path.name}")
