"""The record of an unfinished run: written whole, read as from a stranger, gone from the artifact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.artifacts import request as requests
from apmctl_core.artifacts.request import FILE, Request
from apmctl_core.errors import ArtifactError

from .artifact_samples import put_set

GIVEN = Request(action="distill", target="mine@0123456789ab", recipe={"seed": 3}, pool="/a/pool", segment=7)


def test_a_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    requests.write(tmp_path, GIVEN)
    assert requests.read(tmp_path) == requests.read_own(tmp_path) == GIVEN


def test_a_command_line_cannot_spoil_the_record(tmp_path: Path) -> None:
    requests.write(tmp_path, Request(action="distill", target="x@0", line="apmctl \x1b[2J\udcff" + "x" * 10_000))
    read = requests.read(tmp_path)
    assert read is not None
    assert read.line.isprintable()
    assert 1000 < len(read.line) < 5000


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "push"},
        {"schema": 2},
        {"push": "owner/name"},
        {"set": "hf:owner/name"},
        {"pool": "a-name"},
        {"pool": "../pool"},
        {"segment": -1},
        {"recipe": []},
        {"line": "\x1b[2J"},
        {"summary": "x" * 5_000},
        {"recipe": {"x": "x" * 300_000}},
    ],
)
def test_what_no_run_writes_is_not_believed(tmp_path: Path, changes: dict[str, Any]) -> None:
    requests.write(tmp_path, GIVEN)
    values = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(values))
    assert requests.read(tmp_path) == GIVEN
    (tmp_path / FILE).write_text(json.dumps(values | changes))
    assert requests.read(tmp_path) is None
    with pytest.raises(ArtifactError):
        requests.read_own(tmp_path)


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(b"{"), lambda path: path.write_bytes(b"")]
)
def test_a_record_that_is_missing_or_torn_is_none(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    requests.write(tmp_path, GIVEN)
    spoil(tmp_path / FILE)
    assert requests.read(tmp_path) is None


def test_what_another_user_wrote_is_shown_but_not_carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests.write(tmp_path, GIVEN)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert requests.read(tmp_path) == GIVEN
    with pytest.raises(ArtifactError, match="was begun by another user"):
        requests.read_own(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    requests.write(tmp_path / "elsewhere", GIVEN)
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere" / FILE)
    assert requests.read(tmp_path) is None


def test_an_artifact_has_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = put_set(store)
    store.remove(made)
    with store.workspace("set", made.name, made.id) as work:
        requests.write(work.path, GIVEN)
        work.save_state("x", {}, {})
    (run,) = store.runs()
    assert run.request == GIVEN
    assert put_set(store).id == made.id
    assert not list(tmp_path.rglob(FILE))
