from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl_core import config
from apmctl_core.artifacts import Artifact, Damaged, Manifest, Run, Store, open_artifact
from apmctl_core.artifacts.kinds.reports import Report, save_report
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.storage import files
from tests.apmctl_core.artifacts.artifact_samples import ROW, make_draft, tree

Put = dict[str, Callable[..., Artifact]]
Make = Callable[..., Manifest]


def edit(artifact: Artifact, **changes: Any) -> None:
    path = artifact.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- listing and finding


def test_a_store_that_is_not_there_is_empty_and_is_not_made_by_reading(store: Store) -> None:
    assert store.list() == []
    assert store.runs() == []
    assert store.get("set", "0" * 12) is None
    with pytest.raises(ArtifactError, match="there is no set 'x'"):
        store.find("x", "set")
    assert not store.root.exists()


def test_every_form_of_reference_finds_the_artifact(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    made = put["report"](store, "digits-ipc1")
    monkeypatch.chdir(made.path.parent)
    refs = ["digits-ipc1", made.ref, f"digits-ipc1@{made.id[:3]}", made.id, made.id[:4], str(made.path), f"./{made.id}"]
    for ref in refs:
        assert store.find(ref).manifest == made.manifest
        assert store.find(ref, "report").id == made.id
    assert store.get("report", made.id) == made


@pytest.mark.parametrize(
    "ref", ["", "@", "digits-ipc1@", "@abc", "../x", "a\x00b", "~nobody/x", "x" * 5000, "*", "[a]"]
)
def test_odd_references_are_refused_with_one_line(store: Store, put: Put, ref: str) -> None:
    put["report"](store, "digits-ipc1")
    with pytest.raises(ArtifactError) as caught:
        store.find(ref)
    assert caught.value.hint


def test_a_prefix_of_an_id_has_four_digits_or_more(store: Store, put: Put) -> None:
    made = put["report"](store)
    with pytest.raises(ArtifactError, match="there is no"):
        store.find(made.id[:3])


def test_a_missing_name_comes_with_near_ones(store: Store, put: Put) -> None:
    put["report"](store, "digits-ipc1")
    with pytest.raises(ArtifactError, match="there is no artifact 'digits-ipc2'") as caught:
        store.find("digits-ipc2")
    assert "did you mean digits-ipc1?" in caught.value.hint


def put_dated(store: Store, *created: str | None, **changes: Any) -> list[Artifact]:
    """Reports of one name, seeds 0, 1, ..., made at these times."""
    made = []
    for seed, date in enumerate(created):
        draft = make_draft("report", salt=seed, environment={"created": date} if date else {}, **changes)
        with store.workspace("report", "demo", draft.id) as work:
            save_report(work.path, Report("x@0", (ROW,)))
            made.append(work.publish(draft))
    return made


def told(store: Store, ref: str, kind: str | None = None) -> tuple[Artifact, list[str]]:
    """What a reference finds, and what is said of it."""
    notes: list[Any] = []
    found = store.find(ref, kind, notes.append)
    return found, [note.text for note in notes]


def test_a_bare_name_is_the_newest_and_a_note_says_which_and_what_differs(store: Store) -> None:
    # As the clock of the manifest says, whatever zone it is in; not as files were written, or by the id.
    dates = ("2026-01-02T03:04:05+00:00", "2026-01-02T23:00:00-05:00", "2026-01-03T03:00:00+00:00")
    _, newest, _ = put_dated(store, *dates)
    os.utime(newest.path / "manifest.json", (1, 1))
    note = f"3 artifacts are named demo; using the newest, {newest.ref}: seed 1 (others: 2, 0)"
    assert told(store, "demo") == (newest, [note])
    assert told(store, newest.ref) == (newest, [])


@pytest.mark.parametrize("dates", [(None, None), ("2026-01-02T03:04:05+00:00",) * 2, ("", "no date")])
def test_of_two_that_were_made_at_one_time_the_file_written_last_is_the_newest(
    store: Store, dates: tuple[str | None, ...]
) -> None:
    made = put_dated(store, *dates)
    for newest in made:
        for other in made:
            os.utime(other.path / "manifest.json", (1, 2 if other == newest else 1))
        assert told(store, "demo")[0] == newest


def test_a_damaged_artifact_is_not_the_newest_but_is_named(store: Store) -> None:
    older, newest = put_dated(store, "2026-01-02T03:04:05+00:00", "2026-01-03T03:04:05+00:00")
    (newest.path / "report.json").unlink()
    found, (note,) = told(store, "demo")
    assert found == older
    assert note.startswith(f"skipped {newest.ref}: ")
    (older.path / "report.json").unlink()
    with pytest.raises(ArtifactError, match=r"report\.json is missing"):
        store.find("demo")


def test_only_a_whole_name_means_the_newest(store: Store) -> None:
    made = [artifact.id for artifact in put_dated(store, *[None] * 17)]
    shared = next(id[:1] for id in made if sum(other.startswith(id[:1]) for other in made) > 1)
    with pytest.raises(ArtifactError, match="could be demo@"):
        store.find(f"demo@{shared}")


def test_what_is_to_be_removed_must_be_named_without_doubt(store: Store) -> None:
    older, newer = put_dated(store, None, None)
    os.utime(older.path / "manifest.json", (1, 1))
    with pytest.raises(ArtifactError) as caught:
        store.target("demo")
    assert older.ref in caught.value.message
    assert f"newest is {newer.ref}" in caught.value.hint
    assert store.target(older.ref) == older


def test_the_kind_decides_between_artifacts_of_one_name(store: Store, put: Put) -> None:
    a_set, report = put["set"](store), put["report"](store)
    assert store.find("demo", "set") == a_set
    assert told(store, "demo", "report") == (report, [])
    os.utime(a_set.path / "manifest.json", (1, 1))
    note = f"2 artifacts are named demo; using the newest, {report.ref}: a report (others: set)"
    assert told(store, "demo") == (report, [note])
    with pytest.raises(ArtifactError, match="is a set, not a pool"):
        store.find(a_set.ref, "pool")
    with pytest.raises(ArtifactError, match="is a set, not a pool"):
        store.find(str(a_set.path), "pool")


@pytest.mark.parametrize("url", ["https://user:secret@host/x", "hf://o/n"])
def test_a_url_is_no_path_and_is_not_repeated(store: Store, url: str) -> None:
    with pytest.raises(ArtifactError, match="a URL cannot name an artifact") as caught:
        store.find(url)
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_path_must_be_a_folder_with_an_artifact_of_its_kind(store: Store, put: Put, tmp_path: Path) -> None:
    made = put["report"](store)
    with pytest.raises(ArtifactError, match=r"nowhere is not the folder of an artifact"):
        store.find(str(tmp_path / "nowhere"))
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing"):
        store.find(str(tmp_path))
    with pytest.raises(ArtifactError, match=f"{made.path} is a report, not a pool") as caught:
        open_artifact(made.path, "pool")
    assert caught.value.hint == "give the pool to use"
    assert made.file("report.json") == made.path / "report.json"
    with pytest.raises(ArtifactError, match=rf"{made.ref} has no file set\.safetensors"):
        made.file("set.safetensors")
    assert made.size == (made.path / "report.json").stat().st_size


def test_many_artifacts_of_a_name_are_cut_short(store: Store, put: Put) -> None:
    refs = [put["report"](store, "demo", salt).ref for salt in range(9)]
    with pytest.raises(ArtifactError) as caught:
        store.target("demo")
    assert sum(ref in caught.value.message for ref in refs) == 8
    assert caught.value.message.endswith(" and 1 more")
    store.remove(store.find(refs[0]))
    with pytest.raises(ArtifactError) as caught:
        store.target("demo")
    assert caught.value.message.endswith("(report)")


def test_a_folder_here_is_found_if_the_store_has_nothing_of_that_name(
    store: Store, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put["report"](store)
    shutil.copytree(made.path, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    assert store.find("copy").manifest == made.manifest


def test_a_newer_schema_is_named_when_it_is_asked_for(store: Store, put: Put) -> None:
    made = put["report"](store)
    edit(made, schema=config.SCHEMA_VERSION + 1)
    with pytest.raises(ArtifactError, match="newer than this apmctl"):
        store.find("demo")


def test_damaged_artifacts_are_listed_apart_and_can_be_removed(store: Store, put: Put) -> None:
    good, bad = put["report"](store, "good", 1), put["report"](store, "bad", 2)
    (bad.path / "manifest.json").write_text("{")
    assert store.list() == [good]
    (listed,), (damaged,) = store.scan()
    assert listed == good
    assert (damaged.ref, damaged.kind) == (bad.ref, "report")
    assert store.get("report", bad.id) is None
    target = store.target("bad")
    assert isinstance(target, Damaged)
    store.remove(target)
    assert not bad.path.parent.exists()


@pytest.mark.parametrize("damage", ["missing", "longer", "link", "folder"])
def test_files_must_be_there_and_of_their_size(store: Store, put: Put, damage: str) -> None:
    made = put["set"](store)
    path = made.file("events.jsonl")
    content = path.read_bytes()
    path.unlink()
    if damage == "longer":
        path.write_bytes(content + b" ")
    elif damage == "link":
        (store.root / "elsewhere").write_bytes(content)
        path.symlink_to(store.root / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(
        ArtifactError, match=r"events\.jsonl (is missing or not an ordinary file|has \d+ bytes, not \d+)"
    ):
        store.find("demo")
    assert store.list() == []


def test_an_artifact_has_the_id_of_its_folder_and_takes_its_name(store: Store, put: Put) -> None:
    made = put["report"](store)
    other = made.path.parent.rename(store.root / "reports" / "other")
    assert store.find("other").ref == f"other@{made.id}"
    (other / made.id).rename(other / ("0" * 12))
    with pytest.raises(ArtifactError, match="holds demo@"):
        store.find("other")


def test_links_in_the_store_are_not_followed(store: Store, put: Put, tmp_path: Path) -> None:
    made = put["report"](store)
    (store.root / "reports" / "linked").symlink_to(made.path.parent)
    (made.path.parent / ("0" * 12)).symlink_to(tmp_path)
    (made.path.parent / f".{'0' * 12}.partial").symlink_to(tmp_path)
    assert store.scan() == ([made], [])
    assert store.runs() == []


def test_strange_folders_in_the_store_are_passed_over(store: Store, put: Put) -> None:
    made = put["report"](store)
    for name in ("reports/.hidden/aaaaaaaaaaaa", "reports/demo/not-an-id", "reports/x y/aaaaaaaaaaaa", "sets", "other"):
        (store.root / name).mkdir(parents=True)
    (store.root / "reports" / "file").write_text("x")
    assert store.list() == [made]
    assert store.scan()[1] == []


def test_listing_does_not_load_torch(store: Store, put: Put) -> None:
    made = put["set"](store)
    with store.workspace("set", "going", "a" * 12) as work:
        work.save_state("s", {}, {"progress": {"done": 1, "total": 2, "unit": "x"}})
    code = (
        "import sys; from pathlib import Path; from apmctl_core.artifacts import Store; s = Store(Path(sys.argv[1]));"
        "assert len(s.list()) == 1 and s.find(sys.argv[2]) and s.runs()[0].progress['done'] == 1;"
        "assert not {'torch', 'safetensors', 'PIL', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root), made.id], check=True)


# --- trouble with the folder


@pytest.mark.parametrize("where", ["", "sets"])
def test_a_store_that_is_no_folder_is_an_error(tmp_path: Path, where: str) -> None:
    root = tmp_path / "store"
    (root / where).parent.mkdir(exist_ok=True, parents=True)
    (root / where).write_text("x")
    with pytest.raises(StoreError, match="not a directory") as caught:
        Store(root).list()
    assert "`store`" in caught.value.hint
    with pytest.raises(StoreError), Store(root).workspace("set", "x", "a" * 12) as work:
        work.log({})


def refuse(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_store_that_may_not_be_read_is_an_error(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put["report"](store)
    monkeypatch.setattr(os, "scandir", refuse(errno.EACCES))
    for action in (store.list, store.runs, lambda: store.find("demo"), lambda: store.get("set", "0" * 12)):
        with pytest.raises(StoreError, match="permission denied"):
            action()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read and write anything")
def test_permissions_are_respected(store: Store, put: Put) -> None:
    put["report"](store)
    store.root.chmod(0o000)
    try:
        with pytest.raises(StoreError, match="permission denied"):
            store.list()
    finally:
        store.root.chmod(0o755)


@pytest.mark.parametrize(("number", "cause"), [(errno.EROFS, "read-only"), (errno.EACCES, "permission denied")])
def test_a_read_only_store_can_be_read_and_says_so_when_written(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch, number: int, cause: str
) -> None:
    made = put["report"](store)
    monkeypatch.setattr(Path, "mkdir", refuse(number))
    assert store.find("demo") == made
    with pytest.raises(StoreError, match=cause) as caught, store.workspace("set", "x", "a" * 12):
        pytest.fail("it must not begin")
    assert caught.value.hint


def test_space_is_checked_for_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    files.require_space(tmp_path / "a" / "b", 1)
    with pytest.raises(StoreError, match="free") as caught:
        files.require_space(tmp_path / "a" / "b", 1 << 60)
    assert caught.value.hint
    assert not (tmp_path / "a").exists()


# --- removing


def test_removing_leaves_nothing(store: Store, put: Put) -> None:
    made = put["report"](store)
    store.remove(made)
    assert tree(store.root) == []
    store.remove(made)  # gone already


def test_removing_one_leaves_the_others(store: Store, put: Put) -> None:
    one, two = put["report"](store, "demo", 1), put["report"](store, "demo", 2)
    store.remove(one)
    assert store.list() == [two]


def test_only_what_is_in_the_store_is_removed(store: Store, put: Put, tmp_path: Path) -> None:
    made = put["report"](store)
    shutil.copytree(made.path, tmp_path / "copy")
    with pytest.raises(ArtifactError, match="not in the store"):
        store.remove(open_artifact(tmp_path / "copy"))
    assert (tmp_path / "copy" / "manifest.json").exists()


def test_what_is_being_worked_on_is_not_removed(store: Store, make: Make) -> None:
    draft = make("report")
    with store.workspace("report", "demo", draft.id) as work:
        work.save_state("s", {}, {})
        (run,) = store.runs()
        assert run.running
        with pytest.raises(StoreError, match="locked by process") as caught:
            store.remove(run)
        assert "stop it" in caught.value.hint
    (run,) = store.runs()
    assert not run.running
    store.remove(run)
    assert tree(store.root) == []


def test_a_killed_removal_is_finished_by_the_next(store: Store, put: Put) -> None:
    old, other = put["report"](store, "old", 1), put["report"](store, "other", 2)
    old.path.rename(old.path.with_name(f".{old.id}.0a1b2c3d.trash"))
    assert store.list() == [other]
    assert store.runs() == []
    store.remove(other)
    assert tree(store.root) == []


# --- unfinished runs


def test_runs_are_listed_with_their_progress(store: Store) -> None:
    with store.workspace("pool", "slow", "a" * 12) as work:
        work.save_state("one", {}, {"progress": {"done": 3, "total": 10, "unit": "epoch"}})
        work.save_state("two", {}, {"no": "progress"})
    (run,) = store.runs()
    assert (run.kind, run.ref, run.running) == ("pool", "slow@" + "a" * 12, False)
    assert run.progress == {"done": 3, "total": 10, "unit": "epoch"}
    assert store.list() == []


def test_the_bytes_that_a_run_keeps_are_counted(store: Store, put: Put) -> None:
    assert store.kept_bytes("set", "a" * 12) == 0
    with store.workspace("set", "x", "a" * 12) as work:
        work.save_state("s", {}, {})
        (work.path / "set.safetensors").write_bytes(b"x" * 1000)
        state = (work.path / "s.state.safetensors").stat().st_size
    assert store.kept_bytes("set", "a" * 12) == 1000 + state
    assert store.kept_bytes("set", "b" * 12) == 0
    made = put["report"](store)
    assert store.kept_bytes("report", made.id) == 0


def test_a_run_is_no_artifact_but_can_be_a_target(store: Store) -> None:
    with store.workspace("pool", "slow", "a" * 12) as work:
        work.save_state("one", {}, {})
    for ref in ("slow", "aaaa", "slow@aa"):
        with pytest.raises(ArtifactError, match="not finished"):
            store.find(ref)
        assert isinstance(store.target(ref), Run)
    assert store.get("pool", "a" * 12) is None


def test_a_damaged_state_hides_the_progress_only(store: Store) -> None:
    with store.workspace("pool", "slow", "a" * 12) as work:
        work.save_state("one", {}, {})
        (work.path / "one.state.safetensors").write_bytes(b"x" * 100)
    (run,) = store.runs()
    assert run.progress is None
