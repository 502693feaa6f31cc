"""Plain values from a file as a declared type, refused with the name of the file and of the field."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT

T = TypeVar("T")
_LINE = 200


def convert(values: Any, kind: type[T], what: str) -> T:
    """`values`, as `strict_json` parses them, as a `kind`; `what` names the file in errors. Raises ArtifactError."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as e:
        problem, _, path = str(e).replace("`", "'").partition(" - at ")
        field = path.strip("'").removeprefix("$").removeprefix(".")
        raise refused(what, f"{field}: {problem}" if field else problem) from e


def refused(what: str, problem: str, hint: str = DAMAGED_HINT) -> ArtifactError:
    """The error for a file that is not what it should be; names in it may be a stranger's."""
    return ArtifactError(f"{what}: {' '.join(problem.split())[:_LINE]}", hint)
