"""The site: it builds, and a dead link alone makes it fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT

from .pages import text

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")


def test_dead_links_and_nothing_else_fail_the_build(tmp_path: Path) -> None:
    dead = ["nowhere.md", "ci.md#nowhere", "../nowhere.md"]
    for name in ("docs", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*ROOT.glob("*.md"), ROOT / "CITATION.cff", ROOT / "LICENSE", ROOT / "pyproject.toml"]:
        shutil.copy(file, tmp_path)
    with (tmp_path / "docs" / "hub.md").open("a") as page:
        page.write("\n" + " ".join(f"[a link]({link})" for link in dead) + "\n")
    (line,) = [line for line in text("Makefile").splitlines() if "-m sphinx" in line]
    options = line.split("sphinx")[1].split()[:-2]
    command = [sys.executable, "-m", "sphinx", *options, tmp_path / "docs", tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if "WARNING: " in line]
    assert len(warnings) == len(dead)
    assert all("nowhere" in line for line in warnings)
