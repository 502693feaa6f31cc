"""A store in a temporary folder, and what puts small artifacts there."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apmctl_core.artifacts import Artifact, Manifest, Store
from apmctl_core.machine import interrupts
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


@pytest.fixture
def handlers() -> Iterator[None]:
    """The command's handlers of signals, which raise `Interrupted`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.install()
    yield
    interrupts.restore()
    for number, handler in before.items():
        signal.signal(number, handler)
