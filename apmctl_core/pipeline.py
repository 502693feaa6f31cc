"""From a recipe to artifacts: what is there already is reused, what is missing is made, each by one stage.

This is where stages and the store meet. The stages take values and give values; ids, reuse, resuming and publishing
are decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apmctl_core import config as cfg
from apmctl_core.artifacts.store import Artifact, Store, Workspace
from apmctl_core.config import EvalConfig, Recipe
from apmctl_core.data import Dataset, Spec
from apmctl_core.events import Emit, silent
from apmctl_core.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Session:
    """Where to keep things and how to compute; what all commands share."""

    store: Store
    runtime: Runtime
    data_path: Path | None = None
    emit: Emit = silent
    wait: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An artifact that a command made or found."""

    artifact: Artifact
    reused: bool
    metrics: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float
    peak_memory_bytes: int
