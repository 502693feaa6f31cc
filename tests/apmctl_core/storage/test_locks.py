from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.errors import Interrupted, StoreError
from apmctl_core.events import Note
from apmctl_core.storage import locks

ID = "a" * 12

WORKS = """
import sys, time
from pathlib import Path
from apmctl_core.artifacts import Store
from tests.drafts import draft
root, name, salt, log = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
store = Store(root)
d = draft("report", name, recipe={"salt": salt}, config={"salt": salt}, inputs={},
          data=dict(dataset="d", fingerprint="f", classes=["a"], shape=[1, 1, 1]))
with store.workspace("report", name, d.id) as work:
    made = work.existing
    if made is None:
        with log.open("a") as f:
            f.write(f"computed {d.id}\\n")
        time.sleep(0.3)
        work.write("report.json", b'{"set": "", "results": []}')
        made = work.publish(d)
print(made.ref)
"""

HOLDS = """
import sys, time
from pathlib import Path
from apmctl_core.artifacts import Store
with Store(Path(sys.argv[1])).workspace("set", "x", "a" * 12):
    print("held", flush=True)
    time.sleep(600)
"""


def spawn(code: str, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE)


def finish(children: list[subprocess.Popen[bytes]]) -> list[str]:
    out = [child.communicate(timeout=120)[0].decode().strip() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return out


def note_of(store: Store) -> Path:
    return store.locks / f"set-{ID}.json"


def write_note(store: Store, **changes: Any) -> None:
    values = {"host": "elsewhere", "boot": "b" * 36, "pid": 1, "started": 1.0, "since": "then", "name": "x"}
    store.locks.mkdir(parents=True, exist_ok=True)
    note_of(store).write_text(json.dumps(values | changes))


def test_eight_processes_with_one_recipe_compute_it_once_under_whatever_name(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    out = finish([spawn(WORKS, store.root, f"name{i % 2}", 1, log) for i in range(8)])
    assert len(set(out)) == 1
    assert len(log.read_text().splitlines()) == 1
    assert [a.ref for a in store.list()] == out[:1]
    assert store.runs() == []
    assert [p.name for p in store.locks.iterdir()] == []


def test_eight_processes_with_different_recipes_make_eight_results(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    out = finish([spawn(WORKS, store.root, "same", i, log) for i in range(8)])
    assert len(set(out)) == len(store.list()) == len(log.read_text().splitlines()) == 8
    assert [p.name for p in store.locks.iterdir()] == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(store: Store) -> None:
    child = spawn(HOLDS, store.root)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert locks.running(store.locks, f"set-{ID}")
    with pytest.raises(StoreError, match=f"process {child.pid}"), store.workspace("set", "x", ID, wait=False):
        pass
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not locks.running(store.locks, f"set-{ID}")
    with store.workspace("set", "x", ID, wait=False):
        owner = locks.owner_of(store.locks, f"set-{ID}")
        assert owner is not None
        assert owner.pid == os.getpid()


def test_who_does_not_wait_is_told_who_works_and_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.workspace("set", "x", ID):
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: pytest.fail("it waits"))
        who = rf"process {os.getpid()} \(since 20\d\d-.* UTC\)$"
        with pytest.raises(StoreError, match=f"set other@{ID} is locked by {who}") as caught:  # noqa: SIM117
            with store.workspace("set", "other", ID, wait=False):
                pass
        assert caught.value.hint == "wait for it to end"


def test_who_waits_says_so_once_and_then_goes_on(store: Store) -> None:
    heard: list[Any] = []
    entered = threading.Event()

    def second() -> None:
        with store.workspace("set", "x", ID, emit=heard.append):
            entered.set()

    with store.workspace("set", "x", ID):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(4 * locks.POLL_S)
        assert not entered.is_set()
    thread.join(20)
    assert entered.is_set()
    assert [type(event) for event in heard] == [Note]
    assert heard[0].text.startswith(f"waiting for process {os.getpid()}")


def test_waiting_can_be_ended_by_the_caller(store: Store) -> None:
    def stop(event: object) -> None:
        raise KeyboardInterrupt

    with store.workspace("set", "x", ID):
        with pytest.raises(KeyboardInterrupt), store.workspace("set", "x", ID, emit=stop):
            pass
        assert locks.running(store.locks, f"set-{ID}")
    assert [p.name for p in store.locks.iterdir()] == []


def test_different_kinds_and_ids_do_not_wait_for_each_other(store: Store) -> None:
    with (
        store.workspace("set", "x", ID, wait=False),
        store.workspace("pool", "x", ID, wait=False),
        store.workspace("set", "x", "b" * 12, wait=False),
    ):
        assert len(list(store.locks.glob("*.lock"))) == 3
    assert list(store.locks.glob("*.lock")) == []


def test_a_lock_of_another_machine_is_respected_with_a_hint(store: Store) -> None:
    write_note(store)
    with pytest.raises(StoreError, match=r"process 1 on elsewhere \(since then\)") as caught:  # noqa: SIM117
        with store.workspace("set", "x", ID, wait=False):
            pass
    assert f"delete {note_of(store)}" in caught.value.hint
    assert note_of(store).exists()


def test_the_other_machine_is_waited_for_until_its_note_is_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_note(store)
    heard: list[Any] = []
    polls = []

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            note_of(store).unlink()

    monkeypatch.setattr(locks.time, "sleep", sleep)
    with store.workspace("set", "x", ID, emit=heard.append):
        assert len(polls) == 3
    assert "if that process is dead, delete" in heard[0].text


@pytest.mark.parametrize(
    "changes",
    [
        {"host": socket.gethostname()},
        {"boot": locks._boot()},  # another container on this machine: the kernel knows its locks
        {"host": socket.gethostname(), "boot": locks._boot(), "pid": 2**30},
    ],
)
def test_a_note_that_a_dead_process_of_this_machine_left_is_no_lock(store: Store, changes: dict[str, Any]) -> None:
    write_note(store, **changes)
    with store.workspace("set", "x", ID, wait=False):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', '{"host": "a\\u001b"}', "x" * 100_000])
def test_a_note_that_cannot_be_read_is_no_lock(store: Store, text: str) -> None:
    write_note(store)
    note_of(store).write_text(text)
    assert locks.owner_of(store.locks, f"set-{ID}") is None
    with store.workspace("set", "x", ID, wait=False):
        pass


def test_a_process_that_has_a_dead_ones_number_is_not_its_owner(store: Store) -> None:
    write_note(store, host=socket.gethostname(), boot=locks._boot(), pid=os.getpid(), started=1.0)
    assert not locks.running(store.locks, f"set-{ID}")


def test_what_long_dead_processes_left_is_swept_and_living_locks_are_not(store: Store) -> None:
    with store.workspace("pool", "held", "b" * 12):
        held = store.locks / f"pool-{'b' * 12}.lock"
        dead, foreign, fresh = (store.locks / f"set-{c * 12}.lock" for c in "def")
        for path in (dead, foreign, fresh):
            path.touch()
        dead.with_suffix(".json").write_text("{}")
        torn, old, new = (
            store.locks / f".set-{c * 12}.json.0a1b2c3d.tmp" for c in "ade"
        )  # notes that were being written
        for path in (torn, old, new):
            path.touch()
        os.utime(old, (1, 1))
        write_note(store)
        note_of(store).rename(foreign.with_suffix(".json"))
        for path in (dead, foreign, held):
            os.utime(path, (1, 1))
        with store.workspace("set", "x", ID):
            pass
        left = sorted(p.name for p in store.locks.glob("*.lock"))
        assert left == sorted([held.name, foreign.name, fresh.name])
        assert not dead.with_suffix(".json").exists()
        assert list(store.locks.glob(".*")) == [new]


def test_a_lock_file_that_its_holder_removes_before_it_is_taken_is_no_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = store.locks / f"set-{ID}.lock"
    flock, calls = locks.fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            lock.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with store.workspace("set", "x", ID, wait=False):
        assert lock.exists() and len(calls) == 2


@pytest.mark.parametrize("left", ["lock", "json", ""])
def test_what_a_dead_process_left_is_tidied_up(store: Store, left: str) -> None:
    store.locks.mkdir(parents=True)
    (store.locks / f"set-{'b' * 12}.lock").touch()
    if left:
        (store.locks / f"set-{ID}.{left}").touch()
    assert locks.is_left(store.locks, f"set-{ID}") == bool(left)
    store.tidy("set", ID)
    assert [p.name for p in store.locks.iterdir()] == [f"set-{'b' * 12}.lock"]


@pytest.mark.parametrize("named", [False, True])
def test_a_holder_without_a_note_is_given_a_moment(store: Store, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """It has just taken the lock, or is leaving; `named`: it had a note when it was first seen."""
    key, heard, sleeps = f"set-{ID}", list[Any](), list[float]()
    store.locks.mkdir(parents=True)
    held = os.open(store.locks / f"{key}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        note_of(store).unlink(missing_ok=True)
        if len(sleeps) == 1 + named:
            os.close(held)

    monkeypatch.setattr(locks.time, "sleep", sleep)
    if named:
        write_note(store)
    with locks.hold(store.locks, key, "x", wait=named, emit=heard.append):
        assert len(sleeps) == 1 + named
    assert [event.text.partition(";")[0] for event in heard] == [
        "waiting for process 1 on elsewhere (since then) to finish x"
    ] * named


def test_a_holder_that_never_has_a_note_is_waited_for_by_no_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key, sleeps = f"set-{ID}", list[float]()
    store.locks.mkdir(parents=True)
    held = os.open(store.locks / f"{key}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(locks.time, "sleep", sleeps.append)
    with pytest.raises(StoreError, match=r"^x is locked by another process$"):  # noqa: SIM117
        with locks.hold(store.locks, key, "x", wait=False):
            pass
    os.close(held)
    assert len(sleeps) == 1


def test_a_planted_link_is_no_lock(store: Store, tmp_path: Path) -> None:
    store.locks.mkdir(parents=True)
    (store.locks / f"set-{ID}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot lock"), store.workspace("set", "x", ID):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_signal_while_a_lock_is_taken_leaves_no_file_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    flock = locks.fcntl.flock

    def interrupted(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(locks.fcntl, "flock", interrupted)
    with pytest.raises(Interrupted), locks.hold(store.locks, f"set-{ID}", "x"):
        pytest.fail("it must not begin")
    assert list(store.locks.iterdir()) == []


def test_a_signal_while_a_lock_is_given_back_leaves_no_file_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    unlink = Path.unlink

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if path == note_of(store):
            signal.raise_signal(signal.SIGTERM)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(Interrupted), locks.hold(store.locks, f"set-{ID}", "x"):
        assert note_of(store).exists()
    assert list(store.locks.iterdir()) == []


def test_a_file_system_without_locks_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="the file system has no locks"), store.workspace("set", "x", ID):
        pass
