"""The main road through the installed command, with settings that take seconds."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "apmctl"
MODEL = ["--arch", "convnet2", "--width", "8", "--precision", "fp32"]
TINY = [
    *("--ipc", "2", "--rounds", "6", "--student-epochs", "8", "--checkpoints", "2"),
    *("--teacher-count", "2", "--teacher-epochs", "3", *MODEL),
]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """The installed command on one store."""

    store: Path

    def __call__(self, *arguments, **environment):
        env = os.environ | {"APMCTL_HOME": str(self.store), "HF_HUB_OFFLINE": "1"} | environment
        done = subprocess.run(
            [COMMAND, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments):
        answer = self(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.document

    def artifacts(self):
        """Every file of the store save the cache of decoded data and locks."""
        if not self.store.exists():
            return []
        files = [p.relative_to(self.store) for p in self.store.rglob("*") if p.is_file()]
        return sorted(str(p) for p in files if p.parts[0] not in ("cache", "locks"))


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path / "store")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A store with a small distilled set of the digits; tests may read it and add to it."""
    shell = Shell(tmp_path_factory.mktemp("made") / "store")
    return shell, shell.json("distill", "digits", *TINY)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
