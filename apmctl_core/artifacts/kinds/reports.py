"""Reports on disk: `report.json`, an object whose `results` are the rows of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.errors import ArtifactError, MismatchError, NumericsError
from apmctl_core.storage.files import DAMAGED_HINT, read_bounded, write_bytes
from apmctl_core.storage.strict_json import parse_object

FILE = "report.json"
MAX_BYTES = 4 << 20
MAX_ROWS = 1_000


def save_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write a report, an object with `results`, into the folder of a run.

    Raises NumericsError for a number that is not finite, StoreError where the disk refuses.
    """
    try:
        data = json.dumps(dict(report), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
    except ValueError as e:
        raise NumericsError("the report has a number that is not finite", "nothing is written") from e
    _checked(data, "the report")
    write_bytes(folder / FILE, data)


def load_report(artifact: Artifact) -> dict[str, Any]:
    """The report of an artifact. Raises ArtifactError where it is damaged, MismatchError for another kind."""
    if artifact.kind != "report":
        raise MismatchError(f"{artifact.ref} is a {artifact.kind}, not a report", "`apmctl eval` makes reports")
    path = artifact.file(FILE)
    return _checked(read_bounded(path, MAX_BYTES), str(path))


def _checked(data: bytes, what: str) -> dict[str, Any]:
    report = parse_object(data, what)
    rows = report.get("results")
    if not isinstance(rows, list) or len(rows) > MAX_ROWS or not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{what} has no list of results", DAMAGED_HINT)
    return report
