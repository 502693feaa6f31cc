"""Artifacts: what a run leaves behind, complete and checked. Importing this does not import torch."""

from __future__ import annotations

from apmctl_core.artifacts import kinds  # noqa: F401  # registers them
from apmctl_core.artifacts.artifact import Artifact, Damaged, Run, open_artifact
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.manifest import FileEntry, Manifest
from apmctl_core.artifacts.store import Store
from apmctl_core.artifacts.workspace import Workspace

__all__ = ["KINDS", "Artifact", "Damaged", "FileEntry", "Manifest", "Run", "Store", "Workspace", "open_artifact"]
