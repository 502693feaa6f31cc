"""Artifacts: what a run leaves behind, complete and checked. Importing this does not import torch.

`pools`, `sets`, `reports`, `verify` and `preview` hold what needs the values themselves.
"""

from __future__ import annotations

from apmctl_core.artifacts.artifact import Artifact, Damaged, open_artifact
from apmctl_core.artifacts.manifest import FileEntry, Manifest, draft
from apmctl_core.artifacts.store import Run, Store
from apmctl_core.artifacts.workspace import Workspace
from apmctl_core.storage.files import require_space

__all__ = [
    "Artifact",
    "Damaged",
    "FileEntry",
    "Manifest",
    "Run",
    "Store",
    "Workspace",
    "draft",
    "open_artifact",
    "require_space",
]
