"""Another name for an artifact: all of it stays, and a process that is killed leaves it under one of the two names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Artifact, Store, open_artifact, request
from apmctl_core.artifacts.request import Request
from apmctl_core.artifacts.verify import verify
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Event, Note
from apmctl_core.storage import locks
from tests.apmctl_core.artifacts.artifact_samples import teacher_shapes
from tests.command import Shell

Put = dict[str, Callable[..., Artifact]]
FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.mark.parametrize("kind", ["pool", "set", "report"])
def test_an_artifact_keeps_all_but_its_name(store: Store, put: Put, kind: str) -> None:
    made = put[kind](store)
    files = {path.name: path.read_bytes() for path in made.path.iterdir()}
    renamed = store.rename(made, "best")
    assert (renamed.ref, renamed.path) == (f"best@{made.id}", store.root / f"{kind}s" / "best" / made.id)
    assert store.list() == [renamed] == [store.find("best")]
    assert not made.path.parent.exists()
    assert verify(renamed, teacher_shapes) == []
    assert open_artifact(renamed.path).manifest == renamed.manifest  # outside the store, the manifest gives the name
    after = {path.name: path.read_bytes() for path in renamed.path.iterdir()}
    assert {name for name in files if files[name] != after[name]} == {"manifest.json"}
    assert after.keys() == files.keys()


@pytest.mark.parametrize("release", sorted(p.name for p in FIXTURES.iterdir() if (p / "sets").is_dir()))
def test_artifacts_of_older_schemas_stay_what_they_are(tmp_path: Path, release: str) -> None:
    shutil.copytree(FIXTURES / release, tmp_path / "store")
    store = Store(tmp_path / "store")
    for artifact in store.list():
        before = json.loads((artifact.path / "manifest.json").read_bytes())
        renamed = store.rename(artifact, "best")
        after = json.loads((renamed.path / "manifest.json").read_bytes())
        different = {name for name in before if before[name] != after[name]}
        assert different == {"name", "digest"} & before.keys()
        assert (after.keys(), after["name"]) == (before.keys(), "best")
        assert store.get(artifact.kind, artifact.id) == renamed


def test_the_same_name_again_changes_nothing(store: Store, put: Put) -> None:
    made = put["report"](store)
    before = (made.path / "manifest.json").read_bytes()
    assert store.rename(made, "demo") == made
    assert (made.path / "manifest.json").read_bytes() == before


def test_a_name_of_another_artifact_is_free(store: Store, put: Put) -> None:
    one, two = put["report"](store, "one", 1), put["report"](store, "two", 2)
    renamed = store.rename(one, "two")
    assert {artifact.ref for artifact in store.list()} == {renamed.ref, two.ref}


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 101])
def test_a_name_that_none_may_have_is_refused(store: Store, put: Put, name: str) -> None:
    made = put["report"](store)
    with pytest.raises(ArtifactError, match="cannot be the name of an artifact"):
        store.rename(made, name)
    assert store.list() == [made]


def test_a_copy_under_that_name_is_not_written_over(store: Store, put: Put) -> None:
    made = put["report"](store)
    copy = store.root / "reports" / "best" / made.id
    shutil.copytree(made.path, copy)
    with pytest.raises(ArtifactError, match=f"best@{made.id} already exists"):
        store.rename(made, "best")
    assert made.path.is_dir()
    assert copy.is_dir()


def test_only_what_is_in_the_store_is_renamed(store: Store, put: Put, tmp_path: Path) -> None:
    made = put["report"](store)
    shutil.copytree(made.path, tmp_path / "copy")
    with pytest.raises(ArtifactError, match="not in the store"):
        store.rename(open_artifact(tmp_path / "copy"), "best")


def test_what_is_being_worked_on_is_not_renamed(store: Store, put: Put) -> None:
    made = put["report"](store)
    with (
        locks.hold(store.locks, f"report-{made.id}", "it"),
        pytest.raises(StoreError, match="locked by process") as caught,
    ):
        store.rename(made, "best")
    assert "then rename it" in caught.value.hint
    assert store.list() == [made]


def test_what_a_running_command_is_made_with_is_not_renamed(store: Store, put: Put) -> None:
    pool, other = put["pool"](store), put["pool"](store, "other", 5)
    with store.workspace("set", "set", "0" * 12) as work:
        work.save_state("images", {}, {})
        request.write(work.path, Request(action="distill", target="set@000000000000", needs=(pool.id,)))
        with pytest.raises(StoreError, match=f"set set@000000000000 is being made with {pool.ref}") as caught:
            store.rename(pool, "best")
        assert "wait for it to end" in caught.value.hint
        assert store.rename(other, "free").name == "free"
    assert store.rename(pool, "best").name == "best"  # the run is idle, and asks for the pool by its id


def test_an_artifact_that_another_process_has_just_renamed_is_renamed_again(store: Store, put: Put) -> None:
    made = put["set"](store)
    store.rename(made, "first")
    assert store.rename(made, "second").ref == f"second@{made.id}"
    store.remove(store.find(made.id))
    with pytest.raises(ArtifactError, match=f"there is no set '{made.id}'"):
        store.rename(made, "third")


def test_a_name_that_others_have_is_said(store: Store, put: Put) -> None:
    heard: list[Event] = []
    one, two, report = put["set"](store), put["set"](store, "other", 5), put["report"](store, "best")
    store.rename(one, "best", heard.append)
    assert heard == []  # a report of that name is no set
    store.rename(two, "best", heard.append)
    assert [note.text for note in heard if isinstance(note, Note)] == [
        "2 sets are named best; the bare name means the newest of them"
    ]
    assert report.path.is_dir()


def test_a_disk_that_refuses_leaves_the_old_name(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    made = put["report"](store)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StoreError, match="permission denied"):
            store.rename(made, "best")
    assert store.list() == [made]


def test_a_process_killed_anywhere_leaves_one_sound_artifact_under_one_of_its_names(
    store: Store, put: Put, tmp_path: Path
) -> None:
    made = put["report"](store)
    names: list[str] = []
    while True:
        point = len(names) + 1
        copy = tmp_path / f"killed-at-{point}"
        shutil.copytree(store.root, copy)
        killed = Shell(copy).start("rename", made.id, "best", die_at=point, root=str(copy)).end()
        (left,) = Store(copy).list()
        assert verify(left, teacher_shapes) == []
        names.append(left.name)
        Store(copy).rename(left, "best")
        files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
        assert files == {f"reports/best/{made.id}/{name}" for name in ("manifest.json", "report.json")}
        if killed.code == 0:
            break
    assert names[0] == "demo"
    assert names[-2:] == ["best", "best"]  # killed late, and not at all
    assert sorted(names, reverse=True) == names  # "demo" comes first: there is one point of no return
