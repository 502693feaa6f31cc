"""A Hub on this machine: `hub` is shared by the tests of a session, `doomed` is one's own, to be killed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.events import Event, Note

from .repositories import Repository

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class LocalHub:
    """The server as a process of its own, and what it keeps."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, again if it was killed, and wait until it answers."""
        command = [sys.executable, "-m", "tests.apmctl_core.hub.server", str(self.root), str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        for _ in range(1000):
            try:
                urllib.request.urlopen(f"{self.url}/api/datasets/no/thing/refs", timeout=5)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the test server does not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def fail(self, *faults: dict[str, Any]) -> None:
        """Switch faults on, and those before off."""
        (self.root / "faults.json").write_text(json.dumps(faults))

    def requests(self, about: str = "do") -> list[Any]:
        """`METHOD path` (or another field of what the server notes) of all requests since the last `forget`."""
        path = self.root / "requests.jsonl"
        return [json.loads(line)[about] for line in path.read_text().splitlines()] if path.exists() else []

    def forget(self) -> None:
        (self.root / "requests.jsonl").unlink(missing_ok=True)

    def repository(self, repo: str, type: str = "datasets") -> Repository:
        return Repository(self.root / "repos" / type / repo)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _started(root: Path) -> Iterator[LocalHub]:
    made = LocalHub(root, free_port())
    made.start()
    yield made
    made.stop()


def pytest_itemcollected(item: pytest.Item) -> None:
    # How the Hub's client hands a file to its HTTP backend is its own affair.
    item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning"))


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    yield from _started(tmp_path_factory.mktemp("hub"))


def point_to(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Make the Hub's client, which reads its environment when it is imported, take another Hub."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    sleep = time.sleep
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))


@pytest.fixture
def hub(_shared: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalHub:
    """The shared server, without faults; the client is pointed to it and may write."""
    point_to(monkeypatch, _shared.url, tmp_path / "hf")
    _shared.fail()
    _shared.forget()
    return _shared


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A server of one's own."""
    (tmp_path / "doomed").mkdir()
    for made in _started(tmp_path / "doomed"):
        point_to(monkeypatch, made.url, tmp_path / "hf")
        yield made


@dataclass
class Said:
    """Listens to events."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A store somewhere else."""
    return Store(tmp_path / "other")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository for this test alone."""
    node = request.node.name
    safe = "".join(c if c.isalnum() else "-" for c in node)[:50]
    return f"tester/{'-'.join(filter(None, safe.split('-')))}-{zlib.crc32(node.encode()):08x}"


@pytest.fixture
def published(hub: LocalHub, store: Store, name: str) -> str:
    """A repository with a set in it, copied from one that was pushed."""
    from apmctl_core.hub.push import push

    from .samples import put_set

    made, template = put_set(store), hub.repository("tester/template")
    if not template.path.exists():
        push(store, made, "tester/template")
    shutil.copytree(template.path, hub.repository(name).path)
    hub.forget()
    return name


def environment(url: str, home: Path, **changes: str) -> dict[str, str]:
    """The environment of a process that is to use a Hub of this machine."""
    mine = {"HF_ENDPOINT": url, "HF_HOME": str(home / "hf"), "APMCTL_HOME": str(home / "store")}
    mine |= {"HF_HUB_DISABLE_XET": "1"}  # the server has LFS alone
    return {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | mine | changes
