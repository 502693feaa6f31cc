from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from apmctl_core.artifacts import Artifact, Manifest, Store, states
from apmctl_core.errors import ArtifactError, NumericsError, StoreError
from apmctl_core.events import Note
from apmctl_core.storage import files
from tests.apmctl_core.artifacts.artifact_samples import tree

Put = dict[str, Callable[..., Artifact]]
Make = Callable[..., Manifest]
ID = "a" * 12
EMPTY = b'{"set": "", "results": []}\n'


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: what a full disk looks like from inside."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- what is left behind


def test_a_workspace_that_is_not_used_leaves_nothing(store: Store) -> None:
    with store.workspace("set", "x", ID) as work:
        assert work.existing is None
        assert not work.resumed
    assert tree(store.root) == []


def test_a_failure_before_any_state_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.workspace("report", "x", ID) as work:
        work.write("report.json", b"{}")
        work.log({"a": 1})
        raise RuntimeError
    assert tree(store.root) == []


def test_a_failure_after_a_state_keeps_it(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.workspace("set", "x", ID) as work:
        work.save_state("s", {"a": torch.ones(2)}, {"round": 7})
        raise KeyboardInterrupt
    with store.workspace("set", "x", ID) as work:
        assert work.resumed
        found = work.load_state("s")
        assert found is not None
        assert found[1] == {"round": 7}


def test_an_unfinished_run_is_found_under_another_name(store: Store) -> None:
    with store.workspace("set", "old", ID) as work:
        work.save_state("s", {}, {"round": 7})
    with store.workspace("set", "new", ID) as work:
        assert work.resumed
    assert [run.ref for run in store.runs()] == [f"new@{ID}"]
    assert not (store.root / "sets" / "old").exists()


def test_of_two_unfinished_runs_the_one_of_this_name_is_resumed(store: Store) -> None:
    for name in ("old", "new"):
        with store.workspace("set", name, ID) as work:
            work.save_state("s", {}, {"name": name})
        (store.root / "sets" / name).rename(store.root / name)
    for name in ("old", "new"):
        (store.root / name).rename(store.root / "sets" / name)
    with store.workspace("set", "new", "b" * 12) as other:
        other.save_state("s", {}, {})
    with store.workspace("set", "new", ID) as work:
        assert work.load_state("s") == ({}, {"name": "new"})
    assert sorted(run.ref for run in store.runs()) == [f"new@{ID}", f"new@{'b' * 12}"]
    assert not (store.root / "sets" / "old").exists()


def test_a_name_that_no_artifact_may_have_is_refused_before_anything_is_made(store: Store) -> None:
    with pytest.raises(ArtifactError, match="cannot be the name"), store.workspace("set", "../x", ID):
        pass
    assert not store.root.exists()


def test_a_file_that_the_kind_lacks_is_a_mistake(store: Store) -> None:
    with store.workspace("set", "x", ID) as work, pytest.raises(ValueError, match="no file"):
        work.write("../../up", b"")


# --- publishing


def test_publishing_makes_the_artifact_and_leaves_only_its_files(store: Store, make: Make) -> None:
    draft = make("report")
    with store.workspace("report", "demo", draft.id) as work:
        work.save_state("s", {}, {"round": 1})
        work.write("report.json", EMPTY)
        work.log({"round": 1})
        (work.path / "stray.txt").write_text("x")
        (work.path / ".report.json.00.tmp").write_text("x")
        (work.path / "folder").mkdir()
        made = work.publish(draft)
    folder = f"reports/demo/{draft.id}"
    names = ["events.jsonl", "manifest.json", "report.json"]
    assert tree(store.root) == ["reports", "reports/demo", folder, *[f"{folder}/{name}" for name in names]]
    assert store.find("demo") == made
    assert made.manifest.files["report.json"].size == len(EMPTY)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, put: Put) -> None:
    for kind in ("set", "pool", "report"):
        one, two = put[kind](Store(tmp_path / "1")), put[kind](Store(tmp_path / "2"))
        for name in [*one.manifest.files, "manifest.json"]:
            assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


def test_what_another_process_finished_is_found_in_the_workspace(store: Store, put: Put) -> None:
    made = put["report"](store, "first")
    with store.workspace("report", "second", made.id) as work:
        assert work.existing == made
    assert not (store.root / "reports" / "second").exists()


def test_an_artifact_that_is_there_is_kept_and_ours_dropped(store: Store, make: Make, put: Put) -> None:
    draft = make("report")
    with store.workspace("report", "demo", draft.id) as work:
        work.write("report.json", b'{"results": [{"ours": 1}]}\n')
        source = Store(store.root.parent / "other")
        theirs = put["report"](source)
        (store.root / "reports" / "demo").mkdir(exist_ok=True)
        theirs.path.rename(store.root / "reports" / "demo" / draft.id)
        made = work.publish(draft)
    assert b"ours" not in made.file("report.json").read_bytes()
    assert store.runs() == []


def test_a_damaged_artifact_is_replaced(store: Store, put: Put) -> None:
    made = put["report"](store)
    (made.path / "manifest.json").write_text("{}")
    again = put["report"](store)
    assert again == made
    assert store.list() == [made]
    assert len(list(made.path.parent.iterdir())) == 1


def test_a_draft_with_files_must_agree_with_what_is_there(store: Store, put: Put) -> None:
    made = put["report"](store)
    other = Store(store.root.parent / "other")
    with pytest.raises(ArtifactError, match=r"report\.json"), other.workspace("report", "demo", made.id) as work:
        work.write("report.json", b'{"results": [1]}')
        work.publish(made.manifest)
    assert tree(other.root) == []
    with other.workspace("report", "demo", made.id) as work:
        work.write("report.json", made.file("report.json").read_bytes())
        copy = work.publish(made.manifest)
    assert (copy.path / "manifest.json").read_bytes() == (made.path / "manifest.json").read_bytes()


def test_an_incomplete_artifact_is_not_published(store: Store, make: Make) -> None:
    draft = make("set")
    with pytest.raises(ArtifactError, match=r"needs set\.safetensors"):  # noqa: SIM117
        with store.workspace("set", "demo", draft.id) as work:
            work.log({"round": 1})
            work.publish(draft)
    assert tree(store.root) == []


def test_another_draft_is_a_mistake(store: Store, make: Make) -> None:
    with store.workspace("report", "demo", ID) as work, pytest.raises(ValueError, match="not what this workspace"):
        work.publish(make("report"))


def test_a_run_killed_between_manifest_and_rename_is_published_by_the_next(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make("report")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
        store.workspace("report", "demo", draft.id) as work,
    ):
        work.write("report.json", EMPTY)
        patch.setattr(Path, "rename", killed)
        work.publish(draft)
    assert store.list() == []
    with store.workspace("report", "demo", draft.id) as work:
        assert work.existing is not None
    assert store.find("demo").id == draft.id


def test_a_manifest_that_does_not_fit_its_files_is_dropped_on_the_way(store: Store, put: Put) -> None:
    made = put["report"](store)
    partial = made.path.rename(made.path.with_name(f".{made.id}.partial"))
    (partial / "report.json").write_bytes(b'{"results": {}}\n')
    with store.workspace("report", "demo", made.id) as work:
        assert work.existing is None
        assert not (partial / "manifest.json").exists()
    assert tree(store.root) == []


def test_history_lines_that_were_torn_are_cut(store: Store) -> None:
    with store.workspace("report", "demo", ID) as work:
        work.log({"a": 1})
        path = work.path / "events.jsonl"
        with path.open("ab") as file:
            file.write(b'{"b": ')
        work.log({"c": float("nan"), "note": "\x1b[1m"})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            {"a": 1},
            {"c": None, "note": "\ufffd[1m"},
        ]


def test_the_latest_number_in_a_history_is_found(store: Store) -> None:
    with store.workspace("set", "x", ID) as work:
        assert work.logged("seconds") == 0
        for record in ({"seconds": 1.5}, {"seconds": 3}, {"seconds": "4"}, {"note": "x"}):
            work.log(record)
        assert work.logged("seconds") == 3.0
        with (work.path / "events.jsonl").open("ab") as file:
            file.write(b'{"seconds": 5')
        assert (work.logged("seconds"), work.logged("note"), work.logged("x")) == (3.0, 0, 0)


# --- states


def state(value: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return {"weight|a.b": torch.full((3, 2), value), "rng": torch.arange(5, dtype=torch.uint8)}, {"round": value}


def loaded(work: Any) -> float | None:
    found = work.load_state("s")
    if found is None:
        return None
    tensors, meta = found
    assert torch.equal(tensors["weight|a.b"], torch.full((3, 2), meta["round"]))
    assert torch.equal(tensors["rng"], torch.arange(5, dtype=torch.uint8))
    value: float = meta["round"]
    return value


def test_the_newest_state_is_loaded_and_cleared(store: Store) -> None:
    with store.workspace("set", "x", ID) as work:
        assert work.load_state("s") is None
        for value in (1.0, 2.0, 3.0):
            work.save_state("s", *state(value))
            assert loaded(work) == value
        assert len(list(work.path.iterdir())) == 2
        work.clear_state("s")
        assert loaded(work) is None
        work.clear_state("s")
    assert tree(store.root) == []


def test_a_state_whose_removal_is_torn_is_not_replaced_by_an_older_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def remove_one(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        path.unlink()

    with store.workspace("set", "x", ID) as work:
        for value in (1.0, 2.0):
            work.save_state("s", *state(value))
        monkeypatch.setattr(states, "remove_tree", remove_one)
        with pytest.raises(KeyboardInterrupt):
            work.clear_state("s")
        assert loaded(work) == 2.0


def test_a_file_that_is_gone_is_older_than_any(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert states.modified(tmp_path / "nowhere") == 0 < states.modified(tmp_path / "a")


def test_states_of_several_names_are_independent(store: Store) -> None:
    with store.workspace("set", "x", ID) as work:
        work.save_state("s", *state(1.0))
        work.save_state("other", {}, {"accuracies": {"a/b": 0.1}})
        work.clear_state("s")
        assert work.load_state("other") == ({}, {"accuracies": {"a/b": 0.1}})


@pytest.mark.parametrize("name", ["", "../x", "a.state", "a/b", ".x", "a" * 65])
def test_a_state_has_a_plain_name(store: Store, name: str) -> None:
    with store.workspace("set", "x", ID) as work, pytest.raises(ValueError, match="cannot name a state"):
        work.save_state(name, {}, {})


def damage_all_ways(content: bytes) -> list[bytes]:
    flipped = [bytearray(content) for _ in range(0, len(content), 7)]
    for i, copy in enumerate(flipped):
        copy[i * 7] ^= 0x10
    return [content[:n] for n in range(0, len(content), 11)] + [bytes(f) for f in flipped] + [content + b"\0"]


def test_whatever_happens_to_the_newest_state_the_one_before_is_taken(store: Store) -> None:
    heard: list[Any] = []
    with store.workspace("set", "x", ID, emit=heard.append) as work:
        work.save_state("s", *state(1.0))
        work.save_state("s", *state(2.0))
        newest = work.path / "s.state.safetensors"
        content = newest.read_bytes()
        for damaged in damage_all_ways(content):
            newest.write_bytes(damaged)
            assert loaded(work) == 1.0
        assert isinstance(heard[0], Note)
        assert heard[0].level == "warning"
        newest.unlink()
        assert loaded(work) == 1.0
        (work.path / "s.state.prev.safetensors").write_bytes(b"x")
        assert loaded(work) is None
        newest.write_bytes(content)
        assert loaded(work) == 2.0


def test_a_number_that_is_not_finite_is_no_state(store: Store) -> None:
    with store.workspace("set", "x", ID) as work:
        work.save_state("s", *state(1.0))
        with pytest.raises(NumericsError):
            work.save_state("s", {}, {"loss": float("nan")})
        assert loaded(work) == 1.0


def test_a_full_disk_leaves_the_states_as_they_were(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot write") as caught, store.workspace("set", "x", ID) as work:
        work.save_state("s", *state(1.0))
        work.save_state("s", *state(2.0))
        before = {p.name: p.read_bytes() for p in work.path.iterdir()}
        with largest_file(200_000):
            work.save_state("s", {"big": torch.zeros(100_000)}, {})
    assert caught.value.hint
    assert {p.name: p.read_bytes() for p in work.path.iterdir()} == before
    with store.workspace("set", "x", ID) as work:
        assert loaded(work) == 2.0


def test_a_full_disk_while_publishing_leaves_the_run_resumable(store: Store, make: Make) -> None:
    draft = make("report")
    with pytest.raises(StoreError), store.workspace("report", "demo", draft.id) as work:
        work.save_state("s", {}, {"round": 1})
        work.write("report.json", EMPTY)
        with largest_file(100):
            work.publish(draft)
    assert store.list() == []
    with store.workspace("report", "demo", draft.id) as work:
        assert work.load_state("s") == ({}, {"round": 1})
        work.publish(draft)
    assert store.find("demo").id == draft.id


def test_a_rename_that_the_disk_refuses_leaves_the_run_to_be_published(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make("report")

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        with pytest.raises(StoreError, match="the disk is full"), store.workspace("report", "demo", draft.id) as work:
            work.write("report.json", EMPTY)
            patch.setattr(Path, "rename", refuse)
            work.publish(draft)
        with pytest.raises(StoreError, match="the disk is full"), store.workspace("report", "demo", draft.id):
            pytest.fail("it cannot begin")
    with store.workspace("report", "demo", draft.id) as work:
        assert work.existing == store.find("demo")


def test_a_history_that_the_disk_refuses_is_an_error(store: Store) -> None:
    with store.workspace("report", "demo", ID) as work, largest_file(10):
        work.log({"a": 1})
        with pytest.raises(StoreError, match=r"cannot write .*events\.jsonl: a file would be larger than allowed"):
            work.log({"a": 1})


@pytest.mark.parametrize(("number", "cause"), sorted({n: c for n, (c, _) in files.CAUSES.items()}.items()))
def test_every_refusal_of_a_disk_has_its_words(tmp_path: Path, number: int, cause: str) -> None:
    with pytest.raises(StoreError, match=cause) as caught, files.disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


# --- killed in the act

SAVES_FOREVER = """
import sys, torch
from pathlib import Path
from apmctl_core.artifacts import Store
with Store(Path(sys.argv[1])).workspace("set", "x", "a" * 12) as work:
    for i in range(10**9):
        work.save_state("s", {"a": torch.full((20000,), float(i))}, {"round": i})
        if i == 3:
            print("ready", flush=True)
"""


def test_a_run_killed_while_it_saves_goes_on_from_a_whole_state(store: Store) -> None:
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", SAVES_FOREVER, str(store.root)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        (store.root / "sets" / "x" / f".{ID}.partial" / ".s.state.safetensors.0a.tmp").write_bytes(b"x")
        with store.workspace("set", "x", ID, wait=False) as work:  # its lock is free
            found = work.load_state("s")
            assert found is not None
            assert torch.equal(found[0]["a"], torch.full((20000,), float(found[1]["round"])))
            assert found[1]["round"] >= 2
            names = {p.name for p in work.path.iterdir()}
            assert names <= {"s.state.safetensors", "s.state.prev.safetensors"}
    assert list((store.root / "locks").iterdir()) == []


STOPS = """
import sys, time
from pathlib import Path
from apmctl_core.machine import interrupts
from apmctl_core.artifacts import Store
from apmctl_core.errors import Interrupted
interrupts.install()
try:
    with Store(Path(sys.argv[1])).workspace("set", "x", "a" * 12) as work:
        work.save_state("s", {}, {"round": 1})
        print("ready", flush=True)
        time.sleep(600)
except Interrupted as e:
    sys.exit(128 + e.signal)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_state_and_no_lock(store: Store, number: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", STOPS, str(store.root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(number)
    assert child.wait(timeout=5) == 128 + number
    child.stdout.close()
    assert [p.name for p in (store.root / "locks").iterdir()] == []
    with store.workspace("set", "x", ID, wait=False) as work:
        assert work.load_state("s") == ({}, {"round": 1})
