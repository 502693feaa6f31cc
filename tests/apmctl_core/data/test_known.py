"""A data set that a test defines by one registration is known to the engine and to the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apmctl.cli import run
from apmctl_core.artifacts import Store
from apmctl_core.data import KNOWN, DatasetSpec, find_cached, inspect, load
from apmctl_core.data.fitting import fit
from apmctl_core.data.source import Rows, Source, in_batches, register
from apmctl_core.errors import DataError
from tests.apmctl_core.data.makers import Log, folder, parquet, rows

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


@pytest.mark.parametrize(
    ("name", "classes", "fits"),
    [
        ("cifar10", KNOWN["cifar10"].classes, True),
        ("cifar10", ("cat", "Dog", "ship"), True),  # a part of it
        ("cifar10", ("cat", "dog", "mouse"), False),
        ("cifar10", tuple(map(str, range(10))), True),  # numbers say nothing: by their count
        ("cifar10", tuple(map(str, range(3))), False),
        ("cifar10", tuple(map(str, range(11))), False),
        ("cifar10", tuple("abcdefghij"), False),
        ("cifar100", KNOWN["cifar10"].classes, False),
        ("cifar100", ("aquarium fish", "cra", "crab"), True),
        ("tiny-imagenet", ("n01443537", "n01629819"), True),
        ("tiny-imagenet", ("n01443537", "n016"), False),
        ("tiny-imagenet", tuple(f"n{i:08}" for i in range(201)), False),
        ("imagenet-1k", tuple(f"tench, {i}" for i in range(1000)), True),  # the Hub's names, of which no list is kept
        ("imagenet-1k", tuple(f"tench, {i}" for i in range(999)), False),
    ],
)
def test_a_known_set_is_known_by_its_classes(name: str, classes: tuple[str, ...], fits: bool) -> None:
    assert KNOWN[name].has(classes) is fits


def test_other_classes_under_a_known_name_are_refused_before_and_after_they_are_cached(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", {"circle": 5, "square": 5, "triangle": 5})
    with pytest.raises(DataError, match="mine has 3 classes") as caught:
        load("cifar10", tmp_path / "cache", path=root)
    said = "has 3 classes (circle, square, triangle); cifar10 has 10 classes (airplane, automobile, bird, ...)"
    assert said in caught.value.message
    assert caught.value.hint == f"give the folder itself as the data set: `distill {root}`"
    with pytest.MonkeyPatch.context() as patch:  # as earlier versions did
        patch.setattr(DatasetSpec, "has", lambda self, classes: True)
        load("cifar10", tmp_path / "cache", path=root)
    for find in (find_cached, load):
        with pytest.raises(DataError, match="mine has 3 classes"):
            find("cifar10", tmp_path / "cache", path=root)


def test_images_of_another_size_whose_classes_are_numbers_are_refused_under_a_known_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "digits" / "train.parquet", rows(20, classes=10)).parent
    with pytest.raises(DataError, match=r"the images in .*digits are 8x8; cifar10's are 32x32") as caught:
        inspect("cifar10", path=path)
    assert str(path) in caught.value.hint


def test_a_part_of_a_known_set_is_a_warning(tmp_path: Path) -> None:
    log = Log()
    root = folder(tmp_path / "part", {"cat": 5, "dog": 5})
    assert load("cifar10", tmp_path / "cache", path=root, emit=log).classes == ("cat", "dog")
    assert "this copy of cifar10 has 2 classes, 8 training and 2 test images" in log.notes


def test_a_held_out_part_of_all_images_is_no_other_copy(tmp_path: Path, stripes: DatasetSpec) -> None:
    for asked in (None, "0.5", "none"):
        log = Log()
        load(stripes.name, tmp_path, test_split=asked, emit=log)
        assert log.notes == ""


@pytest.mark.parametrize("made", ["empty", "foreign"])
def test_wrong_files_of_a_known_set_fail_a_dry_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], made: str
) -> None:
    root = tmp_path / made
    root.mkdir()
    if made == "foreign":
        folder(root, {"a": 2, "b": 2})
    arguments = ["distill", "cifar100", *TINY, "--data", str(root), "--dry-run", "--store", str(tmp_path / "store")]
    assert run(arguments) == 4
    error = capfd.readouterr().err
    assert str(root) in error
    if made == "empty":
        assert "https://huggingface.co/datasets/uoft-cs/cifar100" in error
        assert "cifar-100-python" in error
    else:
        assert f"`apmctl distill {root}`" in error
