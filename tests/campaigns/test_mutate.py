"""The mutation tester on a module of a few lines: what it finds there, and what its tests see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.mutants import mutants
from tests.command import ROOT

CODE = '''
"""Toys, 1 of them."""
from __future__ import annotations

def smallest(values: list[int], limit: int = 0) -> int:
    if not values:
        raise ValueError(f"no values, or {limit} < 1")
    note(values)
    best = values[0]
    for value in values:
        if value < best and limit is not None:
            best = value
    return max(best, limit)

def note(values: list[int]) -> None:
    assert len(values) > 0
    print("smallest of", len(values), flush=True)
'''
TESTS = """
from apmctl_core.toy import smallest

def test_smallest(capsys):
    assert smallest([3, 1, 2]) == 1
    assert capsys.readouterr().out == "smallest of 3\\n"
"""
# Another element that is as small is the same number.
LIVES = "value < best => value <= best"
LISTED = """
[[mutant]]
file = "apmctl_core/toy.py"
function = "smallest"
change = "{}"
reason = "as it may"
"""
START = """
from tests.campaigns import mutate
mutate.PARTS, mutate.TESTS, mutate.PRELOADED = {"toy": ("apmctl_core", "tests")}, ("tests",), ""
mutate.main()
"""


def test_each_breakage_is_found_and_texts_are_left_alone() -> None:
    found = {f"{m.function}: {m.change}" for m in mutants("toy.py", CODE.encode())}
    assert found == {
        "smallest: 0 => 1",
        "smallest: if not values => True",
        "smallest: if not values => False",
        "smallest: not values => values",
        "smallest: raise ValueError(f'no values, or {limit} < 1') => pass",
        "smallest: note(values) => pass",
        "smallest: if value < best and limit is not None => True",
        "smallest: if value < best and limit is not None => False",
        "smallest: value < best and limit is not None => value < best or limit is not None",
        f"smallest: {LIVES}",
        "smallest: limit is not None => limit is None",
        "smallest: return max(best, limit) => return None",
        "note: print('smallest of', len(values), flush=True) => pass",
        "note: print(flush=True) => none",
        "note: True => False",
    }


def test_a_mutant_is_the_file_with_one_change_and_keeps_its_name_where_lines_move() -> None:
    (mutant,) = (m for m in mutants("toy.py", CODE.encode()) if m.change == LIVES)
    assert mutant.apply(CODE.encode()).decode() == CODE.replace("value < best", "(value <= best)")
    moved = {m.name: m.rank for m in mutants("toy.py", b"# more\n\n" + CODE.encode())}
    assert moved[mutant.name] == mutant.rank


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for name, text in {"apmctl_core/toy.py": CODE, "tests/test_toy.py": TESTS}.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "toy"


def test_what_a_test_sees_is_caught_and_the_rest_is_named(toy: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    may_live = tmp_path / "survivors.toml"
    may_live.write_text("".join(map(LISTED.format, ["if value < best and limit is not None => True", "gone"])))
    command = [sys.executable, "-c", START, "--only", "value < best"]
    command += ["--root", str(toy), "--log", str(log), "--survivors", str(may_live)]
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # each mutant would load them
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True)
    entries = {entry["mutant"].split(" | ")[2]: entry["by"] for entry in map(json.loads, log.read_text().splitlines())}
    assert entries.pop(LIVES) is None
    assert len(entries) == 2
    assert set(entries.values()) == {"tests/test_toy.py::test_smallest"}
    lived, score, stale = done.stdout.splitlines()
    assert lived == f"lived: apmctl_core/toy.py:11 smallest | {LIVES}"
    assert json.loads(score) == {"part": "toy", "of": 4, "score": 0.667, "caught": 2, "lived": 1, "listed": 1}
    assert stale == "listed, but not there: apmctl_core/toy.py | smallest | gone"
    assert (toy / "apmctl_core/toy.py").read_text() == CODE
