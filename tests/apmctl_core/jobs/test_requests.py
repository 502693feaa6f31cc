"""What unfinished runs keep of what they were asked for, and what comes of asking for it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from apmctl_core.artifacts import Run
from apmctl_core.config import from_dict
from apmctl_core.errors import ArtifactError, Interrupted, MismatchError
from apmctl_core.events import Emit, Event, Progress
from apmctl_core.jobs import Session, distill_set, evaluate_set, relabel_set, resume, train_pool
from apmctl_core.machine.runtime import resolve
from tests.apmctl_core.data.makers import folder
from tests.command import save_always

from .conftest import RECIPE


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    save_always(monkeypatch.setattr)


def stopping(session: Session, stage: str) -> Session:
    """The session in which the first progress of a stage is interrupted."""

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == stage:
            raise Interrupted("interrupted", "", signal=15)

    heard: Emit = emit
    return replace(session, emit=heard)


def unfinished(session: Session) -> Run:
    (run,) = session.store.runs()
    assert run.request is not None
    return run


def test_a_pool_that_was_begun_for_a_set_goes_on_to_the_set(session: Session) -> None:
    with pytest.raises(Interrupted) as caught:
        distill_set(stopping(replace(session, line="apmctl distill digits"), "teachers"), RECIPE, name="mine")
    assert caught.value.hint == ""  # the id alone would be looked for in the user's own store, which is another one
    run = unfinished(session)
    request = run.request
    assert request is not None
    assert (run.kind, request.action, request.line) == ("pool", "distill", "apmctl distill digits")
    assert request.summary == "train 2 convnet1 of width 4, 1 epochs each"
    assert session.store.unfinished("mine") == run  # what the user calls it
    outcome = resume(session, request)
    assert (outcome.artifact.kind, outcome.artifact.ref) == ("set", request.target)
    assert outcome.artifact.name == "mine"
    assert session.store.runs() == []


def test_artifacts_are_asked_for_by_id_and_settings_as_they_were(session: Session) -> None:
    small = replace(session, runtime=resolve("cpu", False, 64, 2 << 30, 3))
    first = train_pool(session, RECIPE, name="pool").artifact
    source = distill_set(session, RECIPE, pool="pool").artifact
    with pytest.raises(Interrupted):
        relabel_set(stopping(small, "label"), source.ref, pool="pool", committee="single")
    request = unfinished(session).request
    assert request is not None
    assert (request.set, request.pool, request.committee) == (source.id, first.id, "single")
    assert set(request.needs) == {source.id, first.id}
    assert (request.device, request.compile, request.segment, request.memory_budget) == ("cpu", False, 64, 2 << 30)
    assert request.workers == 3
    assert resume(session, request).artifact.manifest.config["distill"]["committee"] == "single"
    changes = {"labels": ["hard"], "repeats": 2, "seed": 3}
    with pytest.raises(Interrupted):
        evaluate_set(stopping(session, "evaluate"), source.ref, changes)
    request = unfinished(session).request
    assert request is not None
    assert (request.set, request.changes) == (source.id, changes)
    rows = resume(session, request).metrics["results"]
    assert [(row.labels, len(row.accuracies)) for row in rows] == [("hard", 2)]


def test_a_folder_is_found_from_another_one_and_other_images_in_it_are_refused(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "mine", {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2})
    monkeypatch.chdir(tmp_path)
    recipe = from_dict(type(RECIPE), {"data": {"dataset": "./mine"}}, RECIPE)
    with pytest.raises(Interrupted):
        train_pool(stopping(session, "teachers"), recipe)
    monkeypatch.chdir("/")
    run = unfinished(session)
    assert run.request is not None
    assert run.request.recipe["data"]["dataset"] == str(tmp_path / "mine")
    for image in list((tmp_path / "mine/train/a").iterdir())[1:]:
        image.rename(image.parent.parent / "b" / f"other-{image.name}")
    with pytest.raises(MismatchError, match="cannot be resumed: its data or the program has changed"):
        resume(session, run.request)
    assert unfinished(session).path == run.path
    for image in (tmp_path / "mine/train/b").glob("other-*"):
        image.rename(tmp_path / "mine/train/a" / image.name.removeprefix("other-"))
    assert resume(session, run.request).artifact.ref == run.ref


def test_test_images_elsewhere_are_found_from_another_folder_and_broken_ones_left_out(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "mine", {"a": 6, "b": 6})
    folder(tmp_path / "other", {"a": 2, "b": 2})
    (tmp_path / "other/a/000.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    recipe = from_dict(type(RECIPE), {"data": {"dataset": "./mine", "test_split": "./other"}}, RECIPE)
    tolerant = replace(session, skip_broken=True)
    with pytest.raises(Interrupted):
        train_pool(stopping(tolerant, "teachers"), recipe)
    monkeypatch.chdir("/")
    request = unfinished(session).request
    assert request is not None
    assert request.skip_broken
    assert request.recipe["data"]["test_split"] == str(tmp_path / "other")
    assert resume(tolerant, request).artifact.manifest.data["split"] == "other/ (3 images)"


def test_an_evaluation_finds_data_and_test_images_where_they_were_said_to_lie(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, tests = folder(tmp_path / "mine", {"a": 6, "b": 6}), folder(tmp_path / "other", {"a": 2, "b": 2})
    recipe = from_dict(type(RECIPE), {"data": {"dataset": str(root), "test_split": str(tests)}}, RECIPE)
    source = distill_set(session, recipe).artifact
    monkeypatch.chdir(tmp_path)
    located = replace(session, data_path=Path("mine"), test_path=Path("other"))
    with pytest.raises(Interrupted):
        evaluate_set(stopping(located, "evaluate"), source.ref, {})
    request = unfinished(session).request
    assert request is not None
    assert (request.data_path, request.test_path) == (str(root), str(tests))


def test_a_request_that_makes_no_sense_is_refused_before_anything_is_made(session: Session) -> None:
    with pytest.raises(Interrupted):
        distill_set(stopping(session, "distill"), RECIPE)
    request = unfinished(session).request
    assert request is not None
    for changes, problem in (
        ({"recipe": request.recipe | {"seed": "x"}}, "no usable recipe"),
        ({"recipe": request.recipe | {"seed": 5}}, "cannot be resumed"),
        ({"action": "relabel"}, "does not say which set"),
    ):
        with pytest.raises(ArtifactError, match=problem):
            resume(session, msgspec.structs.replace(request, **changes))
    assert len(session.store.list()) == 1  # the pool
