"""The wheel, installed into an empty environment, does what the README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.command import ROOT
from tests.e2e.conftest import TINY

pytestmark = pytest.mark.slow


def run(*command: object, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=3000, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def apmctl(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The command of an environment that holds the wheel and what it depends on, and nothing of this tree."""
    work = tmp_path_factory.mktemp("wheel")
    sources = work / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for name in ("apmctl", "apmctl_core"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, sources)
    (wheel,) = work.glob("*.whl")
    run(sys.executable, "-m", "venv", work / "venv")
    run(work / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    where = run(work / "venv" / "bin" / "python", "-c", "import apmctl_core; print(apmctl_core.__file__)")
    assert where.startswith(str(work / "venv"))

    def call(*arguments: str) -> Any:
        command = [work / "venv" / "bin" / "apmctl", *arguments, "--device", "cpu", "--json"]
        return json.loads(run(*command, APMCTL_HOME=str(work / "store")))

    return call


def test_a_tiny_set_is_distilled_and_evaluated(apmctl: Callable[..., Any]) -> None:
    document = apmctl("distill", "digits", *TINY, "--ipc", "1", "--name", "tiny")
    assert document["artifact"]["reused"] is False
    (row,) = apmctl("eval", "tiny", "--epochs", "2", "--repeats", "1", "--labels", "soft")["results"]
    assert 0 <= row["accuracy_mean"] <= 1


def test_the_preset_is_distilled_to_more_than_chance(apmctl: Callable[..., Any]) -> None:
    apmctl("distill", "digits", "--ipc", "1", "--name", "preset")
    rows = apmctl("eval", "preset", "--repeats", "2", "--labels", "soft")["results"]
    assert rows[0]["accuracy_mean"] > max(0.5, rows[0]["random_accuracy_mean"])
