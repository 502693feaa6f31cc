"""Whether an artifact is what its manifest says: structure, values, and the sha256 of every byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import HISTORY, KINDS, ShapesOf
from apmctl_core.errors import ArtifactError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.storage.files import DAMAGED_HINT, TEMPORARY, disk_errors, open_regular, sha256_of
from apmctl_core.storage.strict_json import parse_object

_MAX_LINE = 1 << 20
_MAX_LISTED = 20


def verify(artifact: Artifact, shapes_of: ShapesOf, *, strays: bool = True) -> list[str]:
    """Everything that is wrong with an artifact, one line each; nothing where it is sound.

    Checks every sha256, that nothing else lies in the folder (unless `strays` is false), and every value as loading
    does. `shapes_of` gives the weights that a pool's network must have, e.g. `models.registry.state_shapes`. Memory
    does not grow with a set. Raises StoreError where it cannot read.
    """
    files = artifact.manifest.files
    checks: list[Callable[[], object]] = [partial(_check_sha256, artifact, name) for name in sorted(files)]
    checks.append(partial(KINDS[artifact.kind].check, artifact, shapes_of))
    if HISTORY in files:
        checks.append(partial(_check_history, artifact.file(HISTORY)))
    problems = _strays(artifact) if strays else []
    for check in checks:
        try:
            check()
        except ArtifactError as e:
            problems.append(e.message)
    return problems


def require_sound(artifact: Artifact, shapes_of: ShapesOf, *, strays: bool = True, emit: Emit = silent) -> None:
    """Raise ArtifactError with the first of what `verify` finds, if it finds anything; the others are warnings."""
    note_missing_digest(artifact, emit)
    problems = verify(artifact, shapes_of, strays=strays)
    for problem in problems[1:]:
        emit(Note(text=f"{artifact.ref}: {problem}", level="warning"))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{artifact.ref} is damaged: {problems[0]}{more}", DAMAGED_HINT)


def note_missing_digest(artifact: Artifact, emit: Emit) -> None:
    """Say of an artifact of an older schema what nothing vouches for."""
    if artifact.manifest.digest is None:
        problem = "its manifest has no digest, so a change of its metrics would go unnoticed"
        emit(Note(text=f"{artifact.ref} was made by an earlier version: {problem}"))


def _strays(artifact: Artifact) -> list[str]:
    known = {*artifact.manifest.files, manifests.FILE_NAME}
    with disk_errors(artifact.path, "read"):
        # What a killed renaming left; the next one removes it.
        known |= {path.name for path in artifact.path.glob(f".{manifests.FILE_NAME}.*{TEMPORARY}")}
        names = sorted({path.name for path in artifact.path.iterdir()} - known)
    return [f"{name!r} is not in the manifest" for name in names[:_MAX_LISTED]]


def _check_sha256(artifact: Artifact, name: str) -> None:
    artifact.require_sha256(name, sha256_of(artifact.file(name)))


def _check_history(path: Path) -> None:
    with open_regular(path) as file:
        for number, line in enumerate(iter(partial(file.readline, _MAX_LINE), b""), 1):
            if not line.endswith(b"\n"):
                raise ArtifactError(f"line {number} of {path.name} does not end")
            parse_object(line, f"line {number} of {path.name}")
