"""A store in a temporary folder, and what puts small artifacts there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apmctl_core.artifacts import Artifact, Manifest, Store
from tests.apmctl_core.artifacts.artifact_samples import make_draft, put_pool, put_report, put_set


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def make() -> Callable[..., Manifest]:
    return make_draft


@pytest.fixture
def put() -> dict[str, Callable[..., Artifact]]:
    return {"report": put_report, "set": put_set, "pool": put_pool}
