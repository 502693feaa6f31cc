"""Jobs: what their ids cover, graphs of them, and the same artifact from a pickled one in another process."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import torch

from apmctl_core.artifacts import Store
from apmctl_core.config import ModelConfig
from apmctl_core.errors import ArtifactError, ConfigError, MismatchError, StoreError
from apmctl_core.events import Note, Progress
from apmctl_core.jobs import distill_set, evaluate_set, run, train_pool
from apmctl_core.jobs.commands import pool_job, relabel_job, report_job, set_job
from apmctl_core.jobs.job import Located, pending
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.jobs.work import Work, WorkspaceKeeper
from apmctl_core.machine.runtime import resolve
from apmctl_core.models import size_of
from apmctl_core.storage import locks
from apmctl_core.training.checkpoint import Snapshot
from tests.apmctl_core.artifacts.artifact_samples import put_set

from .conftest import RECIPE


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


def test_a_machine_that_is_too_small_is_said_before_teachers_are_trained(session):
    small = dataclasses.replace(session, runtime=resolve("cpu", compile=False, memory_budget=10**6))
    with pytest.raises(ConfigError, match="`memory_budget`"):
        distill_set(small, RECIPE)
    assert session.store.list() == []
    assert session.store.runs() == []


def test_what_a_run_has_on_the_disk_already_is_not_asked_for_again(session, monkeypatch):
    whole = job(session)
    run(session, whole.pool)
    needed = whole.cost().disk_bytes
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": needed - 1000})())
    with pytest.raises(StoreError, match="are needed"):
        run(session, whole)
    monkeypatch.setattr(Store, "kept_bytes", lambda self, kind, id: 1000 if (kind, id) == ("set", whole.id) else 0)
    assert not run(session, whole).reused


def reseeded(seed):
    return dataclasses.replace(RECIPE.teachers, seed=seed)


def test_teachers_have_a_seed_of_their_own(session):
    """Another draw of the images is distilled with the same pool."""
    first, other = (job(session, dataclasses.replace(RECIPE, seed=seed)) for seed in (0, 1))
    assert first.id != other.id
    assert first.pool.id == other.pool.id and first.pool.seed == other.pool.seed == 0
    again = job(session, dataclasses.replace(RECIPE, teachers=reseeded(1))).pool
    manifests = [run(session, pool).artifact.manifest for pool in (first.pool, again)]
    assert [manifest.environment["seed"] for manifest in manifests] == [0, 1]
    assert len({manifest.files["teacher-000.safetensors"].sha256 for manifest in manifests}) == 2


def test_an_outcome_tells_of_its_own_command_and_the_manifest_of_the_work(session, monkeypatch):
    first = run(session, job(session).pool)
    manifest = first.artifact.manifest
    assert 0 < manifest.metrics["seconds"] <= first.elapsed_s
    assert manifest.metrics["peak_memory_bytes"] > 10**7
    assert first.peak_memory_bytes >= manifest.metrics["peak_memory_bytes"]
    assert first.metrics == manifest.metrics
    assert (manifest.environment["segment"], manifest.environment["seed"]) == (0, 0)
    age = datetime.now(UTC) - datetime.fromisoformat(manifest.environment["created"])
    assert timedelta(0) <= age < timedelta(minutes=5)
    both = run(session, job(session, dataclasses.replace(RECIPE, teachers=reseeded(1))))
    parts = [session.store.find(id).manifest for id in (both.artifact.id, both.artifact.manifest.inputs["pool"])]
    assert both.elapsed_s > sum(part.metrics["seconds"] for part in parts)
    again = run(session, job(session).pool)
    assert (again.artifact.id, again.reused, again.metrics) == (first.artifact.id, True, first.metrics)
    assert again.elapsed_s < 5


def test_an_outcome_tells_the_time_of_each_stage_and_what_was_reused(session):
    heard = []
    listening = dataclasses.replace(session, emit=heard.append)
    whole = job(session)
    first = run(listening, whole)
    pool, ref = whole.pool.existing(session).ref, first.artifact.ref
    assert [(s.name, s.reused, s.artifact) for s in first.stages] == [
        *(("teachers", False, pool), ("distill", False, ref), ("label", False, ref))
    ]
    seconds = [s.seconds for s in first.stages]
    assert min(seconds) > 0
    assert 0.5 * first.elapsed_s < sum(seconds) <= first.elapsed_s
    assert not [e for e in heard if isinstance(e, Note) and "reusing" in e.text]
    other = run(
        listening, job(session, dataclasses.replace(RECIPE, distill=dataclasses.replace(RECIPE.distill, ipc=2)))
    )
    assert [(s.name, s.reused) for s in other.stages] == [("teachers", True), ("distill", False), ("label", False)]
    assert (other.stages[0].artifact, other.stages[0].seconds) == (pool, 0)
    assert [e.text for e in heard if isinstance(e, Note) and "reusing" in e.text] == [f"reusing pool {pool}"]
    again = run(session, whole)
    assert [(s.name, s.reused, s.artifact) for s in again.stages] == [("distill", True, ref)]


def test_networks_trained_at_once_have_the_accuracies_that_they_have_alone(session):
    made = distill_set(session, RECIPE).artifact
    changes = {"labels": ["soft"], "repeats": 2}
    alone = evaluate_set(session, made.id, changes)
    session.store.remove(alone.artifact)
    events = []
    runtime = resolve("cpu", compile=False, workers=2)
    both = evaluate_set(dataclasses.replace(session, runtime=runtime, emit=events.append), made.id, changes)
    assert both.metrics["results"] == alone.metrics["results"]
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(n, 4) for n in (1, 2, 3, 4)]


def test_images_that_do_not_move_are_warned_of(session):
    heard = []
    still, faster = (
        dataclasses.replace(RECIPE, distill=dataclasses.replace(RECIPE.distill, **change))
        for change in ({"rounds": 0}, {"image_lr": 1000.0})
    )
    made = run(dataclasses.replace(session, emit=heard.append), job(session, still))
    assert made.metrics["distance_from_start"] == 0
    (warning,) = [e for e in heard if isinstance(e, Note) and e.level == "warning"]
    assert warning.text.startswith("the images did not move")
    run(dataclasses.replace(session, emit=heard.append), job(session, faster))
    assert len([e for e in heard if isinstance(e, Note) and e.level == "warning"]) == 1


def test_a_name_for_what_exists_renames_it_and_its_own_name_does_not(session):
    events = []
    heard = dataclasses.replace(session, emit=events.append)
    first = train_pool(session, RECIPE, name="mine").artifact
    for name in (None, "mine"):
        assert train_pool(heard, RECIPE, name=name).artifact == first
    assert not [event for event in events if isinstance(event, Note)]
    renamed = train_pool(heard, RECIPE, name="other")
    assert (renamed.artifact.ref, renamed.reused) == (f"other@{first.id}", True)
    assert session.store.list() == [renamed.artifact]
    (note,) = [event for event in events if isinstance(event, Note)]
    assert (note.text, note.level) == (f"renamed {first.ref} to other@{first.id}", "info")


def test_a_name_that_cannot_be_given_is_no_reason_to_fail(session):
    events = []
    heard = dataclasses.replace(session, emit=events.append)
    first = train_pool(session, RECIPE).artifact
    with locks.hold(session.store.locks, f"pool-{first.id}", "it"):
        assert train_pool(heard, RECIPE, name="other").artifact == first
    (warning,) = [event for event in events if isinstance(event, Note)]
    assert warning.text.startswith(f"keeping the name of {first.ref}: pool {first.ref} is locked by process")
    assert warning.level == "warning"


def test_a_session_says_which_of_several_artifacts_of_a_name_it_uses(session):
    events = []
    heard = dataclasses.replace(session, emit=events.append)
    one, two = (put_set(session.store, seed=seed) for seed in (0, 1))
    used = heard.find("demo", "set")
    assert used in (one, two)
    (note,) = events
    assert note.text.startswith(f"2 artifacts are named demo; using the newest, {used.ref}: ")


def test_what_another_process_made_while_this_one_waited_is_reused(session, monkeypatch):
    pool = dataclasses.replace(job(session).pool, name="other")
    made = run(session, job(session).pool).artifact
    monkeypatch.setattr(PoolJob, "existing", lambda self, session: None)
    outcome = pool.execute(session)
    assert (outcome.artifact.ref, outcome.reused) == (f"other@{made.id}", True)


def test_a_job_waits_and_tells_as_its_session_does(session, monkeypatch):
    asked = []
    right = Store.workspace

    def workspace(self, *what, **how):
        asked.append(how)
        return right(self, *what, **how)

    monkeypatch.setattr(Store, "workspace", workspace)
    impatient = dataclasses.replace(session, wait=False, emit=lambda event: None)
    train_pool(impatient, RECIPE)
    assert asked == [{"wait": False, "emit": impatient.emit}]


def test_the_disk_has_room_for_three_states_and_for_the_artifact(session):
    whole = job(session, dataclasses.replace(RECIPE, distill=dataclasses.replace(RECIPE.distill, ipc=2)))
    weights = whole.pool.size.weight_bytes
    images, logits = 20 * 64 * 4, 20 * 10 * 4
    beside = (1 << 20) + 8  # mean and standard deviation
    # Two teachers are states and files, the running one has momentum; a set's images have momentum, its five
    # random baselines have logits.
    assert whole.pool.cost().disk_bytes == 2 * 2 * weights + 3 * 2 * weights + beside
    assert whole.cost().disk_bytes == (3 + 1) * (2 * images + 6 * logits) + beside
    white = job(session, dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, preprocessing="zca")))
    matrices = 4 * (64 * 65 // 2 + 64) - 8
    assert white.pool.cost().disk_bytes == whole.pool.cost().disk_bytes + matrices
    assert white.cost().disk_bytes == (3 + 1) * (images + 3 * logits) + matrices + beside


def test_a_state_that_is_kept_comes_back(session):
    progress = Progress(stage="teachers", done=3, total=4, unit="epoch", metrics={"loss": 1.0})
    with session.store.workspace("pool", "mine", "0" * 12) as workspace:
        keeper = WorkspaceKeeper(workspace)
        assert keeper.load("one") is None
        keeper.save("one", Snapshot({"x": torch.arange(3)}, {"cycle": 7}, 5, progress))
        kept = keeper.load("one")
        assert (kept.tensors["x"].tolist(), kept.meta["cycle"], kept.segment) == ([0, 1, 2], 7, 5)
        (unfinished,) = session.store.runs()
        assert unfinished.progress == {"done": 3, "total": 4, "unit": "epoch"}
        keeper.clear("one")
        assert keeper.load("one") is None


def test_an_artifact_is_read_where_it_lay_or_else_from_the_store(session, tmp_path):
    first, second = (put_set(session.store, name, seed) for seed, name in enumerate(("a", "b")))
    located = Located.of(first)
    shutil.copytree(first.path, tmp_path / "a")
    elsewhere = dataclasses.replace(located, path=tmp_path / "a")
    assert elsewhere.open(session).path == tmp_path / "a"
    taken = dataclasses.replace(located, path=second.path)  # another artifact lies there by now
    assert taken.open(session).path == first.path
    gone = dataclasses.replace(located, path=tmp_path / "gone")
    assert gone.open(session).path == first.path
    session.store.remove(first)
    with pytest.raises(ArtifactError):
        gone.open(session)
    assert elsewhere.open(session).id == first.id


def test_a_run_writes_down_its_progress_and_its_notes(session):
    pool = train_pool(dataclasses.replace(session, emit=lambda event: None), RECIPE).artifact
    lines = [json.loads(line) for line in pool.file("events.jsonl").read_text().splitlines()]
    progress = [line for line in lines if "stage" in line]
    assert [(line["stage"], line["done"], line["total"]) for line in progress] == [
        ("teachers", 1, 2),
        ("teachers", 2, 2),
    ]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] <= pool.manifest.metrics["seconds"]


# --- labels and reports


def relabelled(session, **more):
    options = {"pool": None, "committee": "mean", "name": None} | more
    return relabel_job(session, "digits-ipc1", **options)


def test_new_labels_come_from_the_sets_pool_or_from_another_on_the_same_data(session):
    own = distill_set(session, RECIPE).artifact
    wider = dataclasses.replace(RECIPE, model=ModelConfig(arch="convnet1", width=6))
    other = train_pool(session, wider).artifact
    first, second = relabelled(session), relabelled(session, pool=other.ref)
    assert first.pool.id == own.manifest.inputs["pool"]
    assert (second.pool.id, second.labellers) == (other.id, size_of(wider.model, (1, 8, 8), 10))
    assert (first.recipe.distill.committee, first.label) == ("mean", "digits-ipc1-relabel")
    assert len({first.id, second.id, relabelled(session, committee="single").id}) == 3
    assert first.describe() == f"label 10 images by {first.pool.ref}"
    white = dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, preprocessing="zca"))
    with pytest.raises(MismatchError, match="trained on zca images, not standard ones"):
        relabelled(session, pool=train_pool(session, white).artifact.ref)


def test_a_set_that_names_no_pool_must_be_given_one(session):
    put_set(session.store, "stranger")
    with pytest.raises(ArtifactError, match="does not say which pool") as caught:
        relabel_job(session, "stranger", pool=None, committee="mean", name=None)
    assert "`pool`" in caught.value.hint


def test_a_reports_cost_is_of_its_set_and_when_it_is_made_of_the_test_split_too(session, monkeypatch):
    made = distill_set(session, RECIPE).artifact
    costs = []
    right = Work.context

    def context(self, cost, purpose):
        costs.append(cost)
        return right(self, cost, purpose)

    monkeypatch.setattr(Work, "context", context)
    foreseen = report_job(session, made.ref, {}).cost()
    evaluate_set(session, made.ref, {})
    passes = 2 * 1 * 2 * 10 * 6  # of the set and of random images: networks, epochs, images, operations
    adds = size_of(RECIPE.model, (1, 8, 8), 10).multiply_adds
    assert (foreseen.images, foreseen.flops, foreseen.disk_bytes) == (10, passes * adds, 1 << 20)
    assert costs[0].flops == (passes + 2 * 359 * 2) * adds


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
