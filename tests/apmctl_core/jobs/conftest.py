"""A recipe that is done in moments, and a session on a store of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.config import ApmConfig, DataConfig, EvalConfig, ModelConfig, Recipe, TeacherConfig, TrainConfig
from apmctl_core.jobs import Session
from apmctl_core.machine.runtime import resolve

STUDENT = TrainConfig(epochs=2, lr=0.02, momentum=0.9, weight_decay=5e-4, batch=256)
RECIPE = Recipe(
    data=DataConfig(dataset="digits"),
    model=ModelConfig(arch="convnet1", width=4),
    teachers=TeacherConfig(count=2, epochs=1),
    distill=ApmConfig(ipc=1, rounds=2, student=STUDENT, checkpoints=1, refresh_every=1, image_lr=1.0),
    evaluate=EvalConfig(epochs=2, repeats=1),
)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(store=Store(tmp_path / "store"), runtime=resolve("cpu", compile=False))
