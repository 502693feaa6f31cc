"""A data set that a test defines by one registration is known to the engine and to the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apmctl.cli import run
from apmctl_core.artifacts import Store
from apmctl_core.data import KNOWN, DatasetSpec, load
from apmctl_core.data.fitting import fit
from apmctl_core.data.source import Rows, Source, in_batches, register
from apmctl_core.errors import DataError

TINY = [
    *("--ipc", "1", "--arch", "convnet1", "--width", "8", "--teacher-count", "1", "--teacher-epochs", "1"),
    *("--rounds", "1", "--student-epochs", "2", "--checkpoints", "1", "--device", "cpu", "--no-compile", "--quiet"),
]


def open_stripes() -> Source:
    """Images with horizontal or with vertical stripes, under some noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    stripes = np.zeros((8, 8), dtype=np.uint8)
    stripes[::2] = 180
    images = np.stack([stripes.T if label else stripes for label in labels])
    images += rng.integers(0, 60, images.shape, dtype=np.uint8)
    rows = Rows(labels, in_batches(list(images)), lambda i: f"image {i} of stripes")
    return Source(rows, (), ("across", "down"), "a test")


@pytest.fixture
def stripes() -> Iterator[DatasetSpec]:
    spec = DatasetSpec(name="stripes", open=open_stripes, shape=(1, 8, 8), num_classes=2, train=32, test=8)
    yield register(spec)
    del KNOWN["stripes"]


@pytest.mark.usefixtures("stripes")
def test_a_registered_set_is_distilled_by_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--dry-run"], []):
        assert run(["distill", "stripes", *TINY, "--store", str(tmp_path), *arguments]) == 0, capfd.readouterr().err
    (distilled,) = Store(tmp_path).list("set")
    assert distilled.manifest.data["dataset"] == "stripes" and distilled.manifest.classes == ("across", "down")
    assert distilled.manifest.shape == (1, 8, 8)


def test_a_registered_set_has_the_constants_of_its_definition(tmp_path: Path, stripes: DatasetSpec) -> None:
    data = load("stripes", tmp_path)
    measured = fit(data, "standard", tmp_path).tensors["mean"]
    assert measured.item() == pytest.approx(data.train.images.mean() / 255)
    KNOWN["stripes"] = DatasetSpec(**(vars(stripes) | {"mean_std": ((0.25,), (0.5,))}))
    assert fit(data, "standard", tmp_path).tensors["mean"].item() == 0.25


def test_without_its_registration_the_name_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown data set 'stripes'"):
        load("stripes", tmp_path)


@pytest.mark.usefixtures("stripes")
def test_a_name_is_registered_once_and_needs_one_origin() -> None:
    with pytest.raises(ValueError, match="'digits' is already registered"):
        register(KNOWN["digits"])
    with pytest.raises(ValueError, match="needs either"):
        DatasetSpec(name="x", shape=(1, 8, 8), num_classes=2, train=1, test=1)
