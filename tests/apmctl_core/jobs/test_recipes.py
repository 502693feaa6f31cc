"""Recipes for an evaluation, names of data sets and artifacts, and the data that a session finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from apmctl_core.config import DataConfig, ModelConfig
from apmctl_core.errors import ConfigError, DataError, MismatchError
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.jobs import distill_set, evaluate_set, train_pool
from apmctl_core.jobs.commands import report_job, set_job
from apmctl_core.jobs.recipes import artifact_name, check_pool, data_name, evaluation

from .conftest import RECIPE

DIGITS = ((1, 8, 8), 10)


def measured(session, **changes):
    return evaluation(RECIPE, changes, *DIGITS, session.runtime)


def test_an_evaluation_is_by_the_sets_recipe_with_what_is_changed(session):
    plain = measured(session)
    assert (plain.evaluate.epochs, plain.evaluate.repeats, plain.seed, plain.model.width) == (2, 1, 0, 4)
    assert (plain.evaluate.arch, plain.evaluate.labels) == (("convnet1",), ("soft", "hard"))
    changed = measured(session, epochs=7, seed=3, width=6, precision="bf16")
    assert (changed.evaluate.epochs, changed.seed, changed.model.width, changed.precision) == (7, 3, 6, "bf16")
    assert dataclasses.replace(changed, evaluate=plain.evaluate, seed=0, precision=plain.precision) == (
        dataclasses.replace(plain, model=ModelConfig(arch="convnet1", width=6))
    )


def test_networks_and_labels_that_are_named_twice_are_trained_once(session):
    e = measured(session, arch=["convnet2", "auto", "convnet1", "convnet2"], labels=["hard", "soft", "hard"]).evaluate
    assert (e.arch, e.labels) == (("convnet2", "convnet1"), ("hard", "soft"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"arch": ["convnet9"]}, "convnet9"), ({"arch": ["mystery"]}, "mystery"), ({"protocol": "none"}, "protocol")],
)
def test_a_network_or_protocol_that_is_not_there_is_refused(session, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        measured(session, **changes)


def test_labels_that_a_protocol_has_not_are_refused_before_a_set_is_made(session, monkeypatch):
    soft = dataclasses.replace(PROTOCOLS["apm"], procedures={"soft": PROTOCOLS["apm"].procedures["soft"]})
    monkeypatch.setitem(PROTOCOLS, "apm", soft)
    with pytest.raises(ConfigError, match=r"`evaluate\.labels` cannot be 'hard' under protocol apm") as caught:
        set_job(session, RECIPE, session.load(RECIPE.data))
    assert "soft" in caught.value.hint


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("digits", "digits"), ("hf:someone/shapes", "hf:someone/shapes"), ("/data/my shapes/", "my shapes")],
)
def test_a_recipe_calls_a_folder_by_its_last_part(dataset, name):
    assert data_name(dataset) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:someone/shapes", "someone-shapes"),
        ("my  shapes!", "my-shapes"),
        ("--.x_1.", "x_1"),
        ("???", "data"),
        ("a" * 81, "a" * 80),
    ],
)
def test_an_artifact_is_called_by_what_a_name_may_have(text, name):
    assert artifact_name(text) == name


def test_a_pool_must_fit_the_recipe(session):
    pool = train_pool(session, RECIPE).artifact
    fingerprint = pool.manifest.data["fingerprint"]
    check_pool(pool, RECIPE, fingerprint)
    with pytest.raises(MismatchError, match="trained on other data"):
        check_pool(pool, RECIPE, "0" * 64)
    white = dataclasses.replace(RECIPE, data=DataConfig(dataset="digits", preprocessing="zca"))
    with pytest.raises(MismatchError, match="trained on standard images, not zca ones"):
        check_pool(pool, white, fingerprint)
    wider = dataclasses.replace(RECIPE, model=ModelConfig(arch="convnet1", width=5))
    with pytest.raises(MismatchError, match="width 4, not convnet1 of width 5") as caught:
        distill_set(session, wider, pool=pool.ref)
    assert "`model.width` 4" in caught.value.hint
    assert distill_set(session, RECIPE, pool=pool.ref).artifact.manifest.inputs["pool"] == pool.id


def test_a_pool_that_is_named_serves_a_plan_without_data(session):
    """Whether it is of that data is told when the data is at hand."""
    pool = train_pool(session, RECIPE).artifact
    job = set_job(session, RECIPE, None, pool=pool.ref)
    assert (job.pool.id, job.fingerprint) == (pool.id, "")
    assert job.existing(session) is None


def test_a_report_is_of_the_set_with_its_rows(session):
    made = distill_set(session, RECIPE).artifact
    outcome = evaluate_set(session, made.ref, {"labels": ["hard"]})
    assert outcome.metrics["set"] == made.ref
    assert [(row.arch, row.labels, len(row.accuracies)) for row in outcome.metrics["results"]] == [
        ("convnet1", "hard", 1)
    ]
    assert outcome.artifact.name == "digits-ipc1-eval"
    assert outcome.artifact.manifest.inputs["set"] == made.id
    assert outcome.artifact.manifest.data == made.manifest.data
    assert report_job(session, made.ref, {}).describe() == "train 1 networks a row, 2 epochs each"
    assert (
        len({report_job(session, made.ref, c).id for c in ({}, {"seed": 1}, {"width": 5}, {"labels": ["hard"]})}) == 4
    )


# --- what a session finds


def test_a_pull_waits_and_tells_as_the_session_does(session, monkeypatch):
    asked = []
    monkeypatch.setattr("apmctl_core.jobs.session.find", lambda *what, **how: asked.append((what, how)))
    impatient = dataclasses.replace(session, wait=False, emit=asked.append)
    impatient.find("someone/shapes", "set")
    assert asked == [((session.store, "someone/shapes", "set"), {"wait": False, "emit": impatient.emit})]


@pytest.fixture
def folder(tmp_path):
    """Two classes of four plain images."""
    for split in ("train", "test"):
        for k in range(2):
            place = tmp_path / "shapes" / split / f"class{k}"
            place.mkdir(parents=True)
            for i in range(4):
                Image.fromarray(np.full((8, 8, 3), 60 + 100 * k + i, np.uint8)).save(place / f"{i}.png")
    return tmp_path / "shapes"


def test_data_with_a_fingerprint_is_that_data_wherever_it_lies(session, folder):
    first = session.load(DataConfig(dataset=str(folder)))
    named = DataConfig(dataset="shapes")
    assert session.load(named, first.fingerprint).fingerprint == first.fingerprint  # out of the cache
    fresh = dataclasses.replace(session, store=type(session.store)(folder.parent / "fresh"), data_path=folder)
    assert fresh.load(named, first.fingerprint).fingerprint == first.fingerprint
    (folder / "train/class0/0.png").unlink()
    with pytest.raises(MismatchError, match="not the data that the artifact was made from") as caught:
        dataclasses.replace(fresh, store=type(session.store)(folder.parent / "third")).load(named, first.fingerprint)
    assert "`data_path`" in caught.value.hint


def test_a_folder_that_is_neither_here_nor_cached_is_asked_for(session, folder):
    first = session.load(DataConfig(dataset=str(folder)))
    fresh = dataclasses.replace(session, store=type(session.store)(folder.parent / "fresh"))
    with pytest.raises(DataError, match="made from a folder called shapes") as caught:
        fresh.load(DataConfig(dataset="shapes"), first.fingerprint)
    assert "`data_path`" in caught.value.hint


def test_a_plan_decodes_what_lies_here_and_downloads_nothing(session, folder):
    assert session.find_data(DataConfig(dataset="cifar10")) is None
    assert session.find_data(RECIPE.data).classes == tuple("0123456789")
    found = session.find_data(DataConfig(dataset=str(folder)))
    assert len(found.train) == len(found.test) == 8
    assert session.find_data(DataConfig(dataset=str(folder))).fingerprint == found.fingerprint
