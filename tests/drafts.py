"""Manifests without files, as a job drafts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apmctl_core.artifacts.manifest import Data, Manifest
from apmctl_core.config.recipe import digest


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
