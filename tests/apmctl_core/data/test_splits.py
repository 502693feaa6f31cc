"""What a data set is tested on: found, asked for, and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from apmctl_core.config import DataConfig
from apmctl_core.data import Dataset, find_cached, inspect, load
from apmctl_core.data.splits import held_out
from apmctl_core.errors import ConfigError, DataError
from tests.apmctl_core.data.makers import Log, folder, label_feature, parquet, rows

FIFTH = "a held-out fifth of the images (4 of 20)"
UNLABELLED = f"testing on {FIFTH}: the data has no labelled test split"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def plain(tmp_path: Path, **splits: int) -> Path:
    """Class folders with ten images each, or such folders for each split with so many images a class."""
    root = tmp_path / "set"
    for split, count in splits.items():
        folder(root / split, {"a": count, "b": count})
    return root if splits else folder(root, {"a": 10, "b": 10})


@pytest.mark.parametrize(
    ("splits", "split", "notes"),
    [
        ({}, FIFTH, (UNLABELLED,)),
        ({"train": 10}, FIFTH, (UNLABELLED,)),
        ({"train": 10, "val": 3}, "val/ (6 images)", ("testing on val/ (6 images)",)),
        ({"train": 10, "test": 3, "val": 1}, "test/ (6 images)", ()),
    ],
)
def test_what_a_folder_is_tested_on_is_recorded_and_told_unless_it_is_its_test_folder(
    tmp_path: Path, cache: Path, splits: dict[str, int], split: str, notes: tuple[str, ...]
) -> None:
    root = str(plain(tmp_path, **splits))
    decoded, cached = load(root, cache), find_cached(root, cache)
    assert cached is not None
    assert (decoded.split, decoded.notes) == (cached.split, cached.notes) == (split, notes)
    log = Log()
    inspect(root, log)
    assert log.notes == "\n".join(notes)


def test_a_data_set_of_a_package_is_known_by_its_split(cache: Path) -> None:
    data = load("digits", cache)
    assert (data.split, data.notes) == ("a held-out fifth of the images (359 of 1,797)", ())
    asked = load("digits", cache, test_split="0.1")
    assert asked.notes == ("testing on a held-out 10% of the images (179 of 1,797)",)


def test_a_fifth_by_name_is_the_fifth_that_is_taken_without(tmp_path: Path, cache: Path) -> None:
    root = str(plain(tmp_path))
    assert load(root, cache, test_split="0.2").fingerprint == load(root, cache).fingerprint
    labels, counts = np.repeat(np.arange(400), np.arange(2, 402)), np.arange(2, 402)
    expected = np.maximum(1, (counts + 2) // 5)
    assert np.bincount(labels[held_out(labels, range(400))]).tolist() == expected.tolist()


@pytest.mark.parametrize(("fraction", "test"), [("0.5", 10), ("0.25", 6), ("0.01", 2), ("0.99", 18)])
def test_a_fraction_of_each_class_is_held_out_and_leaves_one_image(
    tmp_path: Path, cache: Path, fraction: str, test: int
) -> None:
    data = load(str(plain(tmp_path)), cache, test_split=fraction)
    assert (len(data.train), len(data.test)) == (20 - test, test)
    assert data.split == f"a held-out {float(fraction):.0%} of the images ({test} of 20)"


def test_a_fraction_leaves_the_test_folder_out(tmp_path: Path, cache: Path) -> None:
    data = load(str(plain(tmp_path, train=10, test=3)), cache, test_split="0.2")
    assert (len(data.train), len(data.test)) == (16, 4)


@pytest.mark.parametrize("splits", [{}, {"train": 10, "test": 3}])
def test_without_a_test_split_all_training_images_train(tmp_path: Path, cache: Path, splits: dict[str, int]) -> None:
    root = str(plain(tmp_path, **splits))
    data = load(root, cache, test_split="none")
    assert (len(data.train), len(data.test), data.test.images.shape) == (20, 0, (0, 3, 8, 8))
    assert (data.split, data.notes) == ("none", ("no test split: all 20 images train",))
    assert find_cached(root, cache, test_split="none") is not None


def images_of(data: Dataset) -> tuple[int, int, tuple[str, ...], str | None]:
    return len(data.train), len(data.test), data.classes, data.split


@pytest.mark.parametrize("within", ["", "train"])
def test_any_folder_of_the_data_set_may_be_the_test_split(tmp_path: Path, cache: Path, within: str) -> None:
    root = tmp_path / "set"
    folder(root / within, {"a": 5, "b": 5})
    folder(root / "mine", {"a": 2, "b": 1})
    data = load(str(root), cache, test_split="mine")
    assert images_of(data) == (10, 3, ("a", "b"), "mine/ (3 images)")
    assert data.test.labels.tolist() == [0, 0, 1]
    folder(root / "mine", {"b": 2})
    assert len(load(str(root), cache, test_split="mine").test) == 4


def test_the_test_split_may_lie_elsewhere(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plain(tmp_path, train=10, test=3)
    folder(tmp_path / "other", {"b": 2})
    monkeypatch.chdir(tmp_path)
    log = Log()
    for path in (tmp_path / "other", "./other"):
        data = load(str(root), cache, test_split=str(path), emit=log)
        assert images_of(data) == (20, 2, ("a", "b"), "other/ (2 images)")
        assert data.test.labels.tolist() == [1, 1]
    assert "1 of 2 classes have no test image" in log.notes
    folder(tmp_path / "other", {"c": 1})
    with pytest.raises(DataError, match="is of class 'c', which has no training images"):
        load(str(root), cache, test_split="./other")
    folder(tmp_path / "two" / "train", {"a": 1, "b": 1})
    with pytest.raises(DataError, match="is of class 'train'"):  # all of the folder is one split
        load(str(root), cache, test_split="./two")
    with pytest.raises(DataError, match="there is no data set at nowhere"):
        load(str(root), cache, test_split="./nowhere")


@pytest.mark.parametrize(
    ("dataset", "test_split"),
    [("set", "set"), ("set", "."), (".", "set"), ("set", "set/mine"), ("split", "split/train")],
)
def test_training_images_elsewhere_are_no_test_split(
    tmp_path: Path, cache: Path, dataset: str, test_split: str
) -> None:
    here = tmp_path / "all"
    folder(here / "set", {"a": 2, "b": 2, "mine/a": 1, "mine/b": 1})
    folder(here / "split", {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    with pytest.raises(DataError, match=r"/ has training images, e\.g\. .*000\.png") as caught:
        load(str(here / dataset), cache, test_split=str(here / test_split))
    assert "give a folder with other images" in caught.value.hint
    assert load(str(here / "set"), cache, test_split="mine").split == "mine/ (2 images)"
    assert load(str(here / "split"), cache, test_split=str(here / "split/test")).split == "test/ (2 images)"


def test_training_rows_are_no_test_split_and_other_files_beside_them_are(tmp_path: Path, cache: Path) -> None:
    for split, start in (("train", 0), ("test", 50)):
        parquet(tmp_path / "set" / f"{split}.parquet", rows(6, start=start))
    root = str(tmp_path / "set")
    for path in (root, f"{root}/train.parquet"):
        with pytest.raises(DataError, match=r"has training images, e\.g\. row 0 of "):
            load(root, cache, test_split=path)
    assert load(root, cache, test_split=f"{root}/test.parquet").split == "set/ (6 images)"


def test_the_training_folder_or_split_by_name_is_no_test_split(tmp_path: Path, cache: Path) -> None:
    for splits, hint in (({"train": 4}, "leave `data.test_split` out"), ({"test": 2, "mine": 1}, ": mine/, test/")):
        with pytest.raises(DataError, match=r"^train/ has the training images$") as caught:
            load(str(plain(tmp_path, **splits)), cache, test_split="train")
        assert hint in caught.value.hint
    for split in ("train", "validation"):
        parquet(tmp_path / "rows" / f"{split}.parquet", rows(6))
    with pytest.raises(DataError, match=r"^the train split has the training images$") as caught:
        load(str(tmp_path / "rows"), cache, test_split="train")
    assert ": validation" in caught.value.hint


@pytest.mark.parametrize(("splits", "found"), [(["val"], "val/"), (["test", "valid"], "test/ and valid/")])
def test_test_folders_alone_lack_training_images(tmp_path: Path, cache: Path, splits: list[str], found: str) -> None:
    root = plain(tmp_path, **dict.fromkeys(splits, 4))
    with pytest.raises(DataError, match=f"has {found} but no train/") as caught:
        load(str(root), cache)
    assert "train/CLASS/" in caught.value.hint
    # Classes may have these names.
    assert load(str(folder(tmp_path / "plain", {"test": 4, "val": 4})), cache).classes == ("test", "val")


def test_a_test_folder_that_has_all_images_leaves_none_to_train_on(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"^val/ has all images of the data set$"):
        load(str(plain(tmp_path, val=4)), cache, test_split="val")


def test_parquet_is_tested_on_the_split_or_the_files_that_are_named(tmp_path: Path, cache: Path) -> None:
    for split, count, start in (("train", 12, 0), ("test", 6, 50), ("validation", 4, 90)):
        parquet(tmp_path / "set" / f"{split}.parquet", rows(count, start=start), label_feature(["x", "y"]))
    parquet(tmp_path / "other" / "test.parquet", rows(2, start=7), label_feature(["y", "x"]))
    root = str(tmp_path / "set")
    assert load(root, cache).split == "the test split (6 images)"
    assert load(root, cache, test_split="validation").split == "the validation split (4 images)"
    other = load(root, cache, test_split=str(tmp_path / "other"))
    assert images_of(other) == (12, 2, ("x", "y"), "other/ (2 images)")
    assert other.test.labels.tolist() == [1, 0]
    parquet(tmp_path / "bare" / "test.parquet", rows(2))
    with pytest.raises(DataError, match="do not label their classes alike"):
        load(root, cache, test_split=str(tmp_path / "bare"))


def test_a_split_that_is_not_there_or_has_no_labels_is_refused(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "train.parquet", rows(6))
    parquet(tmp_path / "set" / "test.parquet", [row | {"label": -1} for row in rows(2)])
    root = str(tmp_path / "set")
    with pytest.raises(DataError, match="no folder or split 'val' to test on") as caught:
        load(root, cache, test_split="val")
    assert "it has: test; " in caught.value.hint
    assert "`data.test_split ./val`" in caught.value.hint
    with pytest.raises(DataError, match="'test' has images without label"):
        load(root, cache, test_split="test")


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-0.1", "nan", " "])
def test_a_fraction_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"`data\.test_split`"):
        DataConfig(dataset="digits", test_split=text)


def forget_split(cache: Path) -> None:
    """Make the cached copies what earlier versions wrote."""
    for meta in cache.glob("data/*/meta.json"):
        values = json.loads(meta.read_text())
        del values["split"], values["notes"]
        meta.write_text(json.dumps(values))


def test_a_copy_that_does_not_say_what_it_tests_on_is_decoded_again(tmp_path: Path, cache: Path) -> None:
    root = str(plain(tmp_path))
    before = load(root, cache).fingerprint
    forget_split(cache)
    assert find_cached(root, cache) is None
    log = Log()
    again = load(root, cache, emit=log)
    assert (again.fingerprint, again.split) == (before, FIFTH)
    assert "of an older version: decoding it again" in log.notes
