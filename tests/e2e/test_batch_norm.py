"""A network with batch normalisation as teacher and student, at the image rate of a preset that is ConvNet's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import Shell

# What makes the run short; what decides how images move is the preset's.
SHORT = ["--rounds", "60", "--student-epochs", "100", "--teacher-count", "2", "--teacher-epochs", "10"]
_REACH = 2.1  # of real digits, in standard deviations


@pytest.mark.slow
def test_images_stay_in_range_and_beat_random_ones_beyond_the_interval(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "store")
    made = shell.json("distill", "digits", "--ipc", "1", "--arch", "convnet2-batch", *SHORT)
    assert made["metrics"]["distance_from_start"] > 0.3
    images = load_file(Path(made["artifact"]["path"]) / "set.safetensors")["images"]
    assert float(torch.as_tensor(images).abs().max()) < 2.5 * _REACH
    (row,) = shell.json("eval", made["artifact"]["id"], "--labels", "soft", "--repeats", "10")["results"]
    assert row["difference_low"] > 0
