"""The shell as a user meets it: `cli` runs a command line in this process, `installed` the installed command."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apmctl import cli as shell
from tests.command import COMMAND, Answer


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Answer]]:
    """Run a command line in this process, on a store of its own."""
    monkeypatch.setenv("APMCTL_HOME", str(tmp_path / "store"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = shell.run(arguments)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Answer]:
    """Run the installed command, on a store of its own."""

    def call(*arguments: str, **environment: str) -> Answer:
        env = os.environ | {"APMCTL_HOME": str(tmp_path / "store")} | environment
        done = subprocess.run([COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    return call
