"""Real images, where they are at hand: APMCTL_SHARED, or a folder `shared` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from apmctl_core.data import find_cached, load
from tests.apmctl_core.data.makers import Log

SHARED = Path(os.environ.get("APMCTL_SHARED") or Path(__file__).parents[4] / "shared") / "data"


def need(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there")
    return SHARED / name


def test_cifar10_from_parquet(tmp_path: Path) -> None:
    log = Log()
    path = need("cifar10")
    data = load("cifar10", tmp_path, path=path, emit=log)
    assert data.shape == (3, 32, 32) and data.classes[:2] == ("airplane", "automobile")
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert log.notes == "" and 50 <= len(log.progress) <= 120
    assert abs(float(data.train.images[:2000].mean()) / 255 - 0.473) < 0.01
    found = find_cached("cifar10", tmp_path, path=path)
    assert found is not None and found.fingerprint == data.fingerprint


def test_tiny_imagenet_with_fewer_classes_and_grey_images(tmp_path: Path) -> None:
    log = Log()
    data = load("tiny-imagenet", tmp_path, path=need("tiny-imagenet-20"), emit=log)
    assert data.shape == (3, 64, 64) and data.num_classes == 20 and data.classes[0].startswith("n0")
    assert (len(data.train), len(data.test)) == (10_000, 1000)
    assert "45 grey-scale images were converted to RGB" in log.notes and "has 20 classes" in log.notes
