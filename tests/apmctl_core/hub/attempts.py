"""What must fail, and how; and repositories that lie."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from apmctl.errors import exit_code_of
from apmctl_core.artifacts import Store
from apmctl_core.errors import ApmError
from tests.drafts import sealed

from .conftest import LocalHub
from .samples import tree_of

SECONDS = 20.0  # with the client's own waits cut short


def fails(code: int, match: str, work: Callable[[], Any]) -> ApmError:
    """Run what must fail, soon, with this exit code, one line and a hint."""
    began = time.monotonic()
    with pytest.raises(ApmError, match=match) as caught:
        work()
    error = caught.value
    assert exit_code_of(error) == code, error.message
    assert time.monotonic() - began < SECONDS
    assert error.message
    assert "\n" not in error.message
    assert error.hint
    assert "hf_writer" not in error.message + error.hint
    return error


def nothing_of(store: Store) -> bool:
    """Whether a store has no artifact and nothing half-made; whole files of a download may wait in its cache."""
    return not store.list() and not store.runs() and not any(n.startswith(("sets", "pools")) for n in tree_of(store))


def tamper(hub: LocalHub, repo: str, change: Callable[[dict[str, Any]], None], **files: bytes | None) -> None:
    """Commit another manifest (and other files) to a repository."""
    repository = hub.repository(repo)
    manifest = json.loads(repository.git("show", "main:manifest.json"))
    change(manifest)
    deleted = tuple(name for name, data in files.items() if data is None)
    added = {name: data for name, data in files.items() if data is not None}
    text = json.dumps(sealed(manifest)).encode()
    repository.commit("main", None, "tampered", {"manifest.json": text} | added, deleted)


def setting(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = to

    return change
