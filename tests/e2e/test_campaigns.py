"""The campaigns in their short forms: the scripts themselves, with fewer runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def campaign(name: str, *options: str) -> str:
    """Run a campaign; its last line."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.campaigns.{name}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_killed_and_interrupted_runs_end_in_the_same_bytes() -> None:
    found: dict[str, Any] = json.loads(
        campaign("kill", "--runs", "6", "--points", "6", "--signals", "6", "--installed", "0")
    )
    assert {title: tally["runs"] for title, tally in found.items()} == {
        "killed at random": 6,
        "killed at a change": 6,
        "signalled": 6,
        "installed": 0,
    }
    assert found["killed at a change"]["kills"] >= 6


def test_damaged_artifacts_are_refused_or_harmless() -> None:
    last = campaign("damage", "--fuzz", "60", "--hypothesis", "60", "--large", "2", "--installed", "2")
    assert last.startswith("installed: ")


def test_eight_processes_share_one_store() -> None:
    found: dict[str, Any] = json.loads(campaign("together"))
    assert found["one recipe"]["computed"] == 1
    assert found["one recipe"]["reused"] == 7
    assert found["a recipe each"]["results"] == 8


@pytest.mark.slow
def test_eight_installed_commands_share_one_store() -> None:
    found: dict[str, Any] = json.loads(campaign("together", "--installed"))
    assert found["one recipe"]["computed"] == 1
    assert found["a recipe each"]["results"] == 8


@pytest.mark.slow
def test_two_hundred_killed_runs() -> None:
    found: dict[str, Any] = json.loads(campaign("kill", "--minutes", "45"))
    assert found["killed at random"]["runs"] == 200


@pytest.mark.slow
def test_ten_thousand_damaged_artifacts() -> None:
    assert campaign("damage").startswith("installed: ")
