"""Manifests: without files, as a job drafts them, and restated, as a liar writes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apmctl_core.artifacts.manifest import Data, Manifest, digest_of
from apmctl_core.config import digest
from apmctl_core.storage.files import sha256_of


def draft(
    kind: str,
    name: str,
    *,
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    data: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Manifest:
    """The manifest of what a workspace publishes, its id computed."""
    return Manifest(
        kind=kind,
        id=digest(kind, dict(config), dict(inputs)),
        name=name,
        recipe=dict(recipe),
        config=dict(config),
        inputs=dict(inputs),
        data=Data(**data),
        metrics=dict(metrics or {}),
        environment=dict(environment or {}),
    )


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a manifest with the digest that they ask for, if they have one."""
    with contextlib.suppress(ValueError):  # none fits a NaN
        return {**values, "digest": digest_of(values)} if "digest" in values else dict(values)
    return dict(values)


def restate(folder: Path, **changes: Any) -> None:
    """Let the manifest of an artifact say what `changes` do, and vouch for that and for the files beside it."""
    path = folder / "manifest.json"
    values = json.loads(path.read_bytes()) | changes
    for name in values["files"]:
        file = folder / name
        values["files"][name] = {"sha256": sha256_of(file), "size": file.stat().st_size}
    path.write_text(json.dumps(sealed(values)))
