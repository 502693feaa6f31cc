"""The campaigns in their short forms, and in full where they are asked for. That of damage is in `test_damage.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns import kill, together

SHORT = {"killed at random": 5, "killed at a change": 5, "signalled": 5}
FULL = {"killed at random": 200, "killed at a change": 60, "signalled": 60, "installed": 10}


@pytest.mark.parametrize("counts", [SHORT, pytest.param(FULL, marks=pytest.mark.slow)])
def test_killed_and_interrupted_runs_end_in_the_same_bytes(tmp_path: Path, counts: dict[str, int]) -> None:
    results = kill.run(tmp_path, counts, minutes=45)
    assert {title: tally["runs"] for title, tally in results.items()} == counts
    assert results["killed at a change"]["kills"] >= counts["killed at a change"]


@pytest.mark.parametrize("installed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eight_processes_share_one_store(tmp_path: Path, installed: bool) -> None:
    results = together.run(tmp_path, installed=installed)
    assert (results["one recipe"]["computed"], results["one recipe"]["reused"]) == (1, 7)
    assert (results["a recipe each"]["results"], results["a recipe each"]["computed"]) == (8, 8)
