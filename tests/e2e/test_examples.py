"""The picture of the demo and the notebook, on a small set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command import ROOT

NOTEBOOK = ROOT / "examples" / "digits.ipynb"


def cells() -> dict[str, str]:
    """The notebook's code by the id of its cells."""
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    return {cell["id"]: "".join(cell["source"]) for cell in code}


def test_the_picture_has_real_images_above_distilled_ones(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import picture  # type: ignore[import-not-found]
    from sklearn.datasets import load_digits

    shell, document = made
    sheet = np.asarray(picture.picture(document["artifact"]["id"], shell.store))[..., 0]
    step = picture.TILE + picture.GAP
    assert sheet.shape[1] == picture.MARGIN + 10 * step
    digits = load_digits()

    def is_real(row: int, digit: int) -> bool:
        top = picture.HEAD + row * step + (3 * picture.GAP if row >= 2 else 0)
        left = picture.MARGIN + digit * step
        tile = sheet[top : top + picture.TILE, left : left + picture.TILE]
        pixels = np.rint(digits.images[digits.target == digit] * 255 / 16).astype(np.uint8)
        size = (picture.TILE, picture.TILE)
        return any(
            (np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) == tile).all() for p in pixels
        )

    assert [is_real(row, digit) for row in range(4) for digit in (0, 5, 9)] == [True] * 6 + [False] * 6


def test_the_notebook_runs_on_a_small_set(made, capsys: pytest.CaptureFixture[str]) -> None:
    shell, document = made
    short = ("--epochs", "2", "--repeats", "1")
    names: dict[str, Any] = {}
    for name, code in cells().items():
        exec(compile(code, name, "exec"), names)
        if name == "start":  # the same commands, without their start, and with fewer epochs
            names["apmctl"] = lambda *words: document if words[0] == "distill" else shell.json(*words, *short)
    out = capsys.readouterr().out
    assert "20 images, 1 x 8 x 8, 10 classes" in out
    assert "convnet2, soft labels: " in out
    assert 0.1 < names["accuracy"] <= 1


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(cells().values()), encoding="utf-8")
    env = os.environ | {"APMCTL_HOME": str(tmp_path / "store")}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("% of 359 real digits")[0].split()[-1]) > 60


@pytest.mark.slow
def test_the_demo_takes_less_than_90_seconds_of_cpu(tmp_path: Path) -> None:
    env = os.environ | {"DEMO": "store", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"PYTHONPATH": str(ROOT)}
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    before = os.times()
    done = subprocess.run(["sh", "tools/demo.sh"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert after.children_user + after.children_system - before.children_user - before.children_system < 90
    assert (tmp_path / "store" / "digits-ipc1.png").is_file()
    assert "random" in done.stdout
