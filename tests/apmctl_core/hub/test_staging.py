"""What killed pushes and pulls leave in the cache: swept by the next one, unless a running process holds it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.errors import StoreError
from apmctl_core.events import Event
from apmctl_core.hub.client import Client
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import push
from apmctl_core.hub.staging import staged, sweep
from apmctl_core.network.references import parse

from .attempts import fails
from .conftest import LocalHub, Said
from .samples import put_set, tree_of

DAY_S = 24 * 3600


def kill(work: Callable[[], Any], ready: Callable[[], bool]) -> None:
    """Do something in a process of its own, which is killed as soon as it is `ready`."""
    process = os.fork()
    if not process:
        try:
            work()
        finally:
            os._exit(1)
    for _ in range(2000):
        if ready():
            break
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL


def staging(store: Store) -> list[str]:
    """The files of pushes and pulls in the cache."""
    return [name for name in tree_of(store) if name.startswith("cache/hub/")]


@pytest.mark.parametrize("swept_by", ["push", "pull", "gc"])
def test_what_a_killed_push_leaves_is_swept(
    hub: LocalHub, published: str, store: Store, name: str, swept_by: str
) -> None:
    made = put_set(store, "other", salt=4)
    hub.fail({"match": "/commit/", "do": "stall"})
    kill(lambda: push(store, made, f"{name}-new"), lambda: any("/commit/" in request for request in hub.requests()))
    assert any(file.endswith(".parquet") for file in staging(store))
    hub.fail()
    {
        "push": lambda: push(store, made, published),
        "pull": lambda: pull(store, parse(published)),
        "gc": lambda: sweep(store),
    }[swept_by]()
    assert staging(store) == []
    assert not (store.cache / "hub" / "push").exists()
    assert not list(store.locks.glob("push-*"))


def test_what_a_killed_pull_leaves_is_resumed_or_swept(hub: LocalHub, published: str, other: Store) -> None:
    half = {"match": r"GET .*/set\.safetensors", "do": "stall"}
    hub.fail(half)
    kill(lambda: pull(other, parse(published)), lambda: any("set.safetensors" in r for r in hub.requests()))
    left = staging(other)
    assert any("events.jsonl" in file for file in left)
    hub.repository(published).commit("main", None, "moved on", {"NOTES.md": b"x"}, ())
    hub.fail()
    assert pull(other, parse(published)).artifact.kind == "set"
    assert staging(other) == []


def test_a_download_resumes_in_the_middle_of_a_file(hub: LocalHub, published: str, store: Store, other: Store) -> None:
    size = store.list("set")[0].manifest.files["set.safetensors"].size
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "cut"})
    fails(4, "cannot be reached", lambda: pull(other, parse(published)))
    (partial,) = [file for file in staging(other) if file.endswith(".set.safetensors.tmp")]
    kept = (other.root / partial).stat().st_size
    assert size // 2 <= kept < size
    hub.fail()
    hub.forget()
    assert pull(other, parse(published)).artifact.kind == "set"
    assert f"bytes={kept}-" in hub.requests("range")


def test_a_server_that_knows_no_ranges_sends_the_whole_file(hub: LocalHub, published: str, other: Store) -> None:
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "cut", "times": 1}, {"match": "resolve", "do": "no ranges"})
    assert pull(other, parse(published)).artifact.kind == "set"
    assert "bytes=" in str(hub.requests("range"))


def test_a_push_waits_for_another_to_the_same_repository(hub: LocalHub, store: Store, name: str, said: Said) -> None:
    with contextlib.ExitStack() as other:
        other.enter_context(staged(store, "push", name, "x"))

        def heard(event: Event) -> None:
            said(event)
            other.close()

        push(store, put_set(store), name, emit=heard)
    assert re.fullmatch(rf"waiting for process {os.getpid()} .* to finish the push to {name}", said.notes[0])


def place(store: Store, way: str, repo: str, age_s: float = 0.0) -> Path:
    """What a killed process left."""
    folder = store.cache / "hub" / way / repo.replace("/", "--")
    (folder / "key").mkdir(parents=True)
    (folder / "key" / "file").write_text("x")
    for path in (folder / "key" / "file", folder / "key", folder):
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    return folder


def test_what_is_young_may_be_resumed_and_what_is_held_is_not_touched(store: Store) -> None:
    young, old, pushed = (
        place(store, "pull", "o/a"),
        place(store, "pull", "o/b", DAY_S + 60),
        place(store, "push", "o/c"),
    )
    with staged(store, "pull", "o/d", "1" * 40) as held:
        assert young.exists() and not old.exists() and not pushed.exists()
        (held / "file").write_text("x")
        os.utime(held.parent, (0, 0))
        assert sweep(store) == [young]
        assert (held / "file").exists()
        with (
            pytest.raises(StoreError, match="the pull of o/d is locked by process"),
            staged(store, "pull", "o/d", "2" * 40, wait=False),
        ):
            pass
    assert sweep(store) == [held.parent]
    assert sweep(store) == []
    assert not (store.cache / "hub" / "pull").exists()


def test_a_link_among_leftovers_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    folder = place(store, "push", "o/a")
    (folder / "link").symlink_to(tmp_path / "mine")
    (folder.parent / "o--b").symlink_to(tmp_path / "mine")
    assert sweep(store) == [folder]
    assert (tmp_path / "mine" / "file").exists()


@pytest.mark.parametrize("way", ["push", "pull"])
def test_one_process_at_a_time_has_a_repository(
    hub: LocalHub, published: str, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    refused = []

    def again(*arguments: Any) -> None:
        mine, locked = other if way == "pull" else store, f"the {way} .* is locked by process {os.getpid()}"
        with pytest.raises(StoreError, match=locked), staged(mine, way, published, "x", wait=False):
            pass
        refused.append(way)

    plain = {"pull": Client.download, "push": Client.look}[way]

    def busy(self: Client, *arguments: Any) -> Any:
        if not refused:
            again()
        return plain(self, *arguments)

    monkeypatch.setattr(Client, plain.__name__, busy)
    if way == "pull":
        pull(other, parse(published))
    else:
        push(store, put_set(store, "other", salt=4), published)
    assert refused == [way]


def test_a_pull_that_still_received_something_is_young(store: Store) -> None:
    pulled = place(store, "pull", "o/a", DAY_S)
    os.utime(pulled / "key" / "file")
    assert sweep(store, 3600.0) == []
    os.utime(pulled / "key" / "file", (0, 0))
    assert sweep(store, 3600.0) == [pulled]


def test_what_the_first_release_left_is_swept_when_it_is_old(store: Store) -> None:
    left = [store.cache / "hub" / name for name in ("push-x1y2", "downloads/0a1b")]
    for folder in left:
        folder.mkdir(parents=True)
    assert sweep(store, 3600.0) == []
    assert sorted(sweep(store)) == sorted(left)
    assert not any(folder.exists() for folder in left)
