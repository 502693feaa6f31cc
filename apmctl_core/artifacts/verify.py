"""Whether an artifact is what its manifest says: structure, values, and the sha256 of every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import HISTORY, KINDS, ShapesOf
from apmctl_core.errors import ArtifactError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.storage.files import DAMAGED_HINT, disk_errors, open_regular, sha256_of
from apmctl_core.storage.strict_json import parse_object

_MAX_LINE = 1 << 20
_MAX_LISTED = 20


def verify(artifact: Artifact, shapes_of: ShapesOf, *, strays: bool = True) -> list[str]:
    """Everything that is wrong with an artifact, one line each; nothing where it is sound.

    Checks every sha256, that nothing else lies in the folder (unless `strays` is false), and every value as loading
    does. `shapes_of` gives the weights that a pool's network must have, e.g. `models.registry.state_shapes`. Memory
    does not grow with a set. Raises StoreError where it cannot read.
    """
    problems = [f"{name} is not in the manifest" for name in _strays(artifact)] if strays else []
    for name, entry in sorted(artifact.manifest.files.items()):
        problems += _problems(partial(_check_sha256, artifact, name, entry.sha256))
    problems += _problems(partial(KINDS[artifact.kind].check, artifact, shapes_of))
    if HISTORY in artifact.manifest.files:
        problems += _problems(partial(_check_history, artifact.file(HISTORY)))
    return problems


def require_sound(artifact: Artifact, shapes_of: ShapesOf, *, strays: bool = True, emit: Emit = silent) -> None:
    """Raise ArtifactError with the first of what `verify` finds, if it finds anything; the others are warnings."""
    problems = verify(artifact, shapes_of, strays=strays)
    for problem in problems[1:]:
        emit(Note(text=f"{artifact.ref}: {problem}", level="warning"))
    if problems:
        for problem in problems[1:]:
            emit(Note(text=f"{artifact.ref}: {problem}", level="warning"))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{artifact.ref} is damaged: {problems[0]}{more}", DAMAGED_HINT)


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


def _check_history(path: Path) -> None:
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if not line.endswith(b"\n"):
                raise ArtifactError(f"line {number} of {path.name} does not end")
            parse_object(line, f"line {number} of {path.name}")
