"""A folder of somebody's own images under the default settings: the set beats random images."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, variance

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.command import Shell

SIDE = 16
# What makes the run short on two cores; what decides how images move is left open.
SMALL = ["--width", "16", "--rounds", "120", "--teacher-count", "3", "--teacher-epochs", "40"]
_T = 2.31  # Student's t for 95 per cent, two-sided, eight degrees of freedom


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """A bright shape of any size, about the middle of a dark noisy picture."""
    image = Image.new("L", (SIDE, SIDE), int(rng.integers(0, 60)))
    size = int(rng.integers(4, 7))
    x, y = (SIDE // 2 + int(shift) for shift in rng.integers(-3, 4, 2))
    box, colour = (x - size, y - size, x + size, y + size), int(rng.integers(140, 256))
    pen = ImageDraw.Draw(image)
    if kind == "triangle":
        pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=colour)
    else:
        (pen.ellipse if kind == "circle" else pen.rectangle)(box, fill=colour)
    noise = rng.integers(-20, 21, (SIDE, SIDE))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("own") / "shapes", np.random.default_rng(0)
    for split, count in (("train", 200), ("test", 100)):
        for kind in ("circle", "square", "triangle"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                draw(kind, rng).save(root / split / kind / f"{number:03}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_set_of_a_folder_beats_random_images_beyond_the_interval(folder: Path, tmp_path: Path, seed: int) -> None:
    shell = Shell(tmp_path / "store")
    made = shell.json("distill", folder, "--ipc", "5", "--seed", str(seed), *SMALL)
    assert made["metrics"]["moved"] > 1e-3
    (row,) = shell.json("eval", made["artifact"]["id"], "--labels", "soft")["results"]
    own, random = row["accuracies"], row["random_accuracies"]
    half = _T * math.sqrt(variance(own) / len(own) + variance(random) / len(random))
    assert fmean(own) - fmean(random) > half, (own, random)
