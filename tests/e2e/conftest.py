"""The main road through the command, with settings that take seconds."""

import hashlib
from pathlib import Path

import pytest

from tests.command import Shell

MODEL = ["--arch", "convnet2", "--width", "8", "--precision", "fp32"]
TINY = [
    *("--ipc", "2", "--rounds", "6", "--student-epochs", "8", "--checkpoints", "2"),
    *("--teacher-count", "2", "--teacher-epochs", "3", *MODEL),
]


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
