"""`make demo`: what it says before it installs, what it installs, what it says at the end. pip and apmctl are stubs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT

from .pages import text
from .test_release import CPU_TORCH

_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) exit 0 ;;
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$(dirname "$0")/apmctl" "$3/bin" ;;
  *) echo "ran python $*" ;;
esac
"""
_APMCTL = """#!/bin/sh
case "$*" in *--quiet*) echo digits-ipc1@0 ;; *) echo "ran apmctl $*" ;; esac
"""


def demo(folder: Path, *words: str) -> str:
    """What `make demo` prints, with stubs of Python and apmctl in a new environment."""
    for name, script in (("python3", _PYTHON), ("apmctl", _APMCTL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    places = [f"PYTHON={folder / 'python3'}", f"VENV={folder / 'venv'}", f"DEMO={folder / 'store'}"]
    command = ["make", "-s", "-C", str(ROOT), "demo", *places, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("words", "size", "first"), [((), "6 GB", "-e ."), (("CPU=1",), "1.5 GB", CPU_TORCH)])
@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has CUDA on Linux alone")
def test_the_size_is_said_before_anything_is_installed(
    tmp_path: Path, words: tuple[str, ...], size: str, first: str
) -> None:
    lines = demo(tmp_path, *words).splitlines()
    assert size in lines[0]
    assert "download" in lines[0]
    installs = [line for line in lines if line.startswith("ran python -m pip install")]
    assert installs[0].endswith(first)
    assert installs[-1].endswith("-e .")  # not what tests need
    assert lines.index(installs[0]) == 1


def test_it_says_what_happens_draws_the_images_and_says_what_is_next(tmp_path: Path) -> None:
    out = demo(tmp_path)
    store, ref = tmp_path / "store", "digits-ipc1@0"
    order = [
        "It takes about a minute",
        f"ran apmctl distill digits --ipc 1 --store {store}",
        f"ran apmctl eval {ref} --store {store}",
        f"ran python tools/picture.py {ref} --store {store} --out {store}/digits-ipc1.png",
        f"{store}/digits-ipc1.png    the ten images below ten real ones",
        "To try next:",
    ]
    places = [out.index(part) for part in order]
    assert places == sorted(places)
    assert f'APMCTL_HOME="{store}"' in out[places[-1] :]
    assert f'PATH="{tmp_path / "venv" / "bin"}:$PATH"' in out[places[-1] :]


def test_what_it_installs_is_installed_once(tmp_path: Path) -> None:
    demo(tmp_path)
    assert "pip install" not in demo(tmp_path)


def test_an_older_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    is_old = "import sys; sys.version_info = (3, 10, 9); "
    old.write_text(
        '#!/bin/sh\n[ "$1" = -c ] || { echo Python 3.10.9; exit 1; }\n' + f'exec {sys.executable} -c "{is_old}$2"\n'
    )
    old.chmod(0o755)
    command = ["make", "-s", "-C", str(ROOT), "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_sizes_in_the_readme_are_those_that_make_says() -> None:
    said = re.findall(r"about ([\d.]+) GB, ([\d.]+) GB on disk", text("Makefile"))
    assert said[:2] == [("0.4", "1.5"), ("3", "6")]
    for (download, disk), line in zip(said, re.findall(r"\$ make demo .*", text("README.md")), strict=False):
        assert f"downloads {download} GB, takes {disk} GB" in line
