"""Jobs: what their ids cover, graphs of them, and the same artifact from a pickled one in another process."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.config import ApmConfig, DataConfig, EvalConfig, ModelConfig, Recipe, TeacherConfig, TrainConfig
from apmctl_core.errors import ArtifactError, ConfigError, StoreError
from apmctl_core.jobs import Session, distill_set, run
from apmctl_core.jobs.commands import pool_job, relabel_job, report_job, set_job
from apmctl_core.jobs.job import pending
from apmctl_core.jobs.pool import PoolJob
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
def session(tmp_path):
    return Session(store=Store(tmp_path / "store"), runtime=resolve("cpu", compile=False))


def job(session, recipe=RECIPE, **more):
    return set_job(session, recipe, session.load(recipe.data), **more)


@pytest.mark.parametrize(
    ("table", "changes", "pool_differs"),
    [
        ("distill", {"ipc": 2}, False),
        ("distill", {"committee": "mean"}, False),
        ("evaluate", {"epochs": 3}, None),
        ("teachers", {"epochs": 2}, True),
        ("model", {"width": 5}, True),
        ("data", {"preprocessing": "zca"}, True),
    ],
)
def test_an_id_covers_what_decides_the_artifact_and_nothing_else(session, table, changes, pool_differs):
    changed = dataclasses.replace(RECIPE, **{table: dataclasses.replace(getattr(RECIPE, table), **changes)})
    before, after = job(session), job(session, changed)
    assert (before.id != after.id) == (pool_differs is not None)
    assert (before.pool.id != after.pool.id) == bool(pool_differs)


def test_names_are_no_part_of_an_id_and_are_checked_at_once(session):
    assert job(session, name="mine").id == job(session).id
    with pytest.raises(ConfigError, match=r"`name` cannot be '../x'"):
        job(session, name="../x")


def test_a_graph_is_done_in_order_and_what_exists_is_left_out(session):
    whole = job(session)
    assert [each.stage for each in pending(session, whole)] == ["teachers", "distill"]
    run(session, whole.pool)
    assert [each.stage for each in pending(session, whole)] == ["distill"]
    run(session, whole)
    assert pending(session, whole) == ()
    labels = [relabel_job(session, whole.id, pool=None, committee=each, name=None) for each in ("mean", "single")]
    assert [(each.recipe.distill.committee, each.config["distill"]) for each in labels] == [
        ("mean", {"committee": "mean"}),
        ("single", {"committee": "single"}),
    ]
    assert labels[0].id != labels[1].id
    report = report_job(session, whole.id, {})
    assert [each.stage for each in pending(session, report)] == ["evaluate"]
    for changes in ({"seed": 5}, {"width": 5}, {"epochs": 5}):
        other = report_job(session, whole.id, changes)
        assert other.id != report.id
        values = {"seed": other.recipe.seed, "width": other.models[0].width, "epochs": other.recipe.evaluate.epochs}
        assert values == {"seed": 0, "width": 4, "epochs": 2} | changes


def test_a_job_whose_inputs_are_missing_says_so(session):
    with pytest.raises(ArtifactError, match=r"pool .* is not in the store"):
        job(session).execute(session)


def test_a_set_that_exists_needs_no_pool(session):
    first = distill_set(session, RECIPE)
    session.store.remove(session.store.find(first.artifact.manifest.inputs["pool"]))
    again = distill_set(session, RECIPE)
    assert again.reused
    assert session.store.list("pool") == []


def test_a_disk_that_is_too_small_is_said_before_teachers_are_trained(session, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 3 << 20})())
    with pytest.raises(StoreError, match="free"):
        run(session, job(session, dataclasses.replace(RECIPE, distill=dataclasses.replace(RECIPE.distill, ipc=100))))
    assert session.store.list() == []


FRESH = """
import pickle, sys
from apmctl_core.artifacts import Store
from apmctl_core.jobs import Session
from apmctl_core.machine.runtime import resolve

from pathlib import Path
session = Session(store=Store(Path(sys.argv[1])), runtime=resolve("cpu", compile=False))
for job in pickle.loads(sys.stdin.buffer.read()):
    print(job.execute(session).artifact.ref)
"""


def test_pickled_jobs_make_the_same_artifacts_in_a_fresh_process(session, tmp_path):
    pool = pool_job(session, RECIPE, session.load(RECIPE.data))
    whole = job(session)
    assert isinstance(pool, PoolJob)
    other = tmp_path / "other"
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(other)], input=pickle.dumps((pool, whole)), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    here, there = run(session, whole).artifact, Store(other).find(whole.id)
    assert done.stdout.decode().split()[-1] == here.ref == there.ref
    files = [name for name in here.manifest.files if name != "events.jsonl"]
    assert {n: here.manifest.files[n] for n in files} == {n: there.manifest.files[n] for n in files}
