"""What is tested on, from the settings to the manifests and reports, and what is refused without it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.config import DataConfig, Recipe
from apmctl_core.errors import ConfigError, DataError, MismatchError
from apmctl_core.events import Event, Note
from apmctl_core.jobs import Session, distill_set, evaluate_set, plan, relabel_set, release, train_pool
from apmctl_core.jobs.commands import report_job, set_job
from tests.apmctl_core.data.makers import folder

from .conftest import RECIPE


def on(dataset: Path | str, test_split: str | None = None) -> Recipe:
    return dataclasses.replace(RECIPE, data=DataConfig(dataset=str(dataset), test_split=test_split))


@pytest.fixture
def heard(session: Session) -> tuple[Session, list[str]]:
    """A session, and the notes on what is tested on."""
    notes: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, Note) and "test" in event.text:
            notes.append(event.text)

    return dataclasses.replace(session, emit=emit), notes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "mine", {"a": 10, "b": 10}, mode="L")


@pytest.mark.parametrize("known", [False, True])
def test_every_command_tells_once_what_it_tests_on(heard: Any, tmp_path: Path, known: bool) -> None:
    session, notes = heard
    root = folder(tmp_path / "mine", {"cat": 10, "dog": 10}, mode="L")
    said = ["testing on a held-out fifth of the images (4 of 20): the data has no labelled test split"]
    recipe = on("cifar10" if known else root)
    session = dataclasses.replace(session, data_path=root if known else None)
    made = distill_set(session, recipe).artifact
    assert [note for note in notes if "this copy" not in note] == said
    for command in (
        lambda: distill_set(session, recipe),
        lambda: plan(session, recipe, "distill"),
        lambda: evaluate_set(session, made.ref, {}),
    ):
        notes.clear()
        command()
        assert notes == said


def test_manifests_plans_and_reports_say_what_is_tested_on(session: Session) -> None:
    recipe = on("digits", "0.25")
    split = "a held-out 25% of the images (451 of 1,797)"
    made = distill_set(session, recipe).artifact
    report = evaluate_set(session, made.ref, {"labels": ["soft"]}).artifact
    assert plan(session, recipe, "distill").test_split == split
    (pool,) = session.store.list("pool")
    assert [each.manifest.data["split"] for each in (pool, made, report)] == [split] * 3
    assert made.manifest.recipe["data"]["test_split"] == "0.25"
    (row,) = load_report(report).rows
    assert (row.protocol["test_split"], row.protocol["test_images"]) == (split, 451)


def test_without_a_test_split_there_is_a_set_but_nothing_to_measure(session: Session) -> None:
    made = distill_set(session, on("digits", "none")).artifact
    (pool,) = session.store.list("pool")
    assert pool.manifest.metrics.keys() & {"test_accuracy_mean", "test_accuracy_std"} == set()
    assert pool.manifest.data["split"] == made.manifest.data["split"] == "none"
    with pytest.raises(DataError, match="without a test split: there is nothing to test on") as caught:
        evaluate_set(session, made.ref, {})
    assert "`distill`" in caught.value.hint
    assert session.store.runs() == []


def test_a_set_that_cannot_be_measured_is_not_pushed_with_accuracies(session: Session) -> None:
    with pytest.raises(ConfigError, match="no accuracies to push"):
        release(session, on("digits", "none"), "someone/digits")
    assert session.store.list() == []


def test_a_kept_teacher_without_accuracy_is_taken_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from apmctl_core.jobs import pool as jobs

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(jobs, "save_pool", stop)
        train_pool(session, on("digits", "none"))
    monkeypatch.setattr("apmctl_core.stages.teachers.Trainer.fit", stop)  # both are done
    assert train_pool(session, on("digits", "none")).artifact.manifest.metrics["teachers"] == 2


def test_the_split_decides_an_id_by_its_images_alone(session: Session) -> None:
    ids = [set_job(session, r, session.load(r.data)).id for r in (on("digits"), on("digits", "0.2"))]
    other = on("digits", "0.25")
    assert ids[0] == ids[1] != set_job(session, other, session.load(other.data)).id


def test_a_folder_of_test_images_elsewhere_is_kept_by_its_name(session: Session, root: Path, tmp_path: Path) -> None:
    folder(tmp_path / "secret" / "other", {"a": 2, "b": 2}, mode="L")
    made = distill_set(session, on(root, str(tmp_path / "secret" / "other"))).artifact
    assert made.manifest.recipe["data"]["test_split"] == "other"
    assert "secret" not in (made.path / "manifest.json").read_text()
    given = dataclasses.replace(session, data_path=root)
    assert evaluate_set(given, made.ref, {}).metrics["results"][0].protocol["test_images"] == 4
    shutil.rmtree(session.store.cache)
    shutil.move(tmp_path / "secret" / "other", root / "other")
    again = evaluate_set(given, made.ref, {"repeats": 2}).metrics["results"][0].protocol
    assert again["test_split"] == "other/ (4 images)"


def test_test_images_elsewhere_are_found_where_they_are_said_to_lie(
    session: Session, root: Path, tmp_path: Path
) -> None:
    made = distill_set(session, on(root, str(folder(tmp_path / "other", {"a": 2, "b": 2}, mode="L")))).artifact
    shutil.rmtree(session.store.cache)
    given = dataclasses.replace(session, data_path=root)
    with pytest.raises(DataError, match="no folder or split 'other' to test on") as caught:
        evaluate_set(given, made.ref, {})
    assert "`data.test_split ./other`" in caught.value.hint
    shutil.move(tmp_path / "other", tmp_path / "moved")
    found = dataclasses.replace(given, test_path=tmp_path / "moved")
    outcome = evaluate_set(found, made.ref, {})
    assert outcome.metrics["results"][0].protocol["test_split"] == "moved/ (4 images)"
    assert relabel_set(found, made.ref, committee="single").artifact.id != made.id
    # Neither a copy in the cache nor a report that exists hides that these are other images.
    other = dataclasses.replace(given, test_path=folder(tmp_path / "wrong", {"a": 3, "b": 3}, mode="L"))
    for changes in ({}, {"repeats": 2}):
        with pytest.raises(MismatchError, match="not the data that the artifact was made from") as mismatch:
            evaluate_set(other, made.ref, changes)
        assert "`data.test_split`" in mismatch.value.hint


def test_where_test_images_lie_is_no_part_of_an_id(session: Session, root: Path, tmp_path: Path) -> None:
    made = distill_set(session, on(root, str(folder(tmp_path / "other", {"a": 2, "b": 2}, mode="L")))).artifact
    located = dataclasses.replace(session, data_path=root, test_path=tmp_path / "other")
    assert report_job(located, made.ref, {}).id == report_job(session, made.ref, {}).id


def test_broken_images_are_left_out_of_a_session_that_asks_for_it(heard: Any, root: Path) -> None:
    session, _ = heard
    (root / "a" / "001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"001\.png is not an image"):
        train_pool(session, on(root))
    made = train_pool(dataclasses.replace(session, skip_broken=True), on(root)).artifact
    assert made.manifest.data["split"].endswith("of 19)")
