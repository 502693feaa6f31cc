"""Folders of images: layouts, links, and what is wrong with a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from apmctl_core.data import load
from apmctl_core.data.walk import list_files
from apmctl_core.errors import DataError, StoreError
from tests.apmctl_core.data.makers import Log, folder, image, pixels


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_class_folders_alone_get_the_fixed_split(tmp_path: Path, cache: Path) -> None:
    data = load(str(folder(tmp_path / "set", {"dog": 10, "cat": 5})), cache)
    assert data.classes == ("cat", "dog") and data.shape == (3, 8, 8)
    assert np.bincount(data.train.labels).tolist() == [4, 8]
    assert np.bincount(data.test.labels).tolist() == [1, 2]


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_train_and_a_test_folder_are_the_splits(tmp_path: Path, cache: Path, test: str) -> None:
    folder(tmp_path / "set" / "train", {"b": 2, "a": 3})
    folder(tmp_path / "set" / test, {"a": 1, "b": 1})
    data = load(str(tmp_path / "set"), cache)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1] and data.test.labels.tolist() == [0, 1]


def test_pixels_and_order_are_those_of_the_sorted_files(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        for k, name in enumerate("ab"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(2):
                image(10 * k + i).save(tmp_path / "set" / split / name / f"{i}.png")
    data = load(str(tmp_path / "set"), cache)
    expected = np.stack([pixels(s).transpose(2, 0, 1) for s in (0, 1, 10, 11)])
    assert np.array_equal(data.train.images, expected) and np.array_equal(data.test.images, expected)


def test_train_alone_gets_the_fixed_split(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set" / "train", {"a": 10, "b": 10})
    data = load(str(tmp_path / "set"), cache)
    assert (len(data.train), len(data.test)) == (16, 4)


def test_a_flat_test_folder_is_left_out_with_a_note(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set" / "train", {"a": 10, "b": 10})
    (tmp_path / "set" / "test").mkdir()
    image(0).save(tmp_path / "set" / "test" / "0.png")
    log = Log()
    assert len(load(str(tmp_path / "set"), cache, emit=log).test) == 4
    assert "test has no class folders and is left out" in log.notes


def test_images_in_folders_of_a_class_belong_to_it(tmp_path: Path, cache: Path) -> None:
    for name in "ab":
        folder(tmp_path / "set" / name, {"images": 3, "more": 2})
    assert np.bincount(load(str(tmp_path / "set"), cache).train.labels).tolist() == [4, 4]


def test_grey_sets_stay_grey_and_mixed_ones_become_rgb(tmp_path: Path, cache: Path) -> None:
    grey = folder(tmp_path / "grey", {"a": 3, "b": 3}, mode="L")
    assert load(str(grey), cache).shape == (1, 8, 8)
    image(5).save(grey / "a" / "colour.png")
    log = Log()
    assert load(str(grey), cache, emit=log).shape == (3, 8, 8)
    assert "6 grey-scale images were converted to RGB" in log.notes


def test_colour_after_many_grey_images_starts_again_as_rgb(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 280, "b": 3}, mode="L")
    image(5).save(root / "b" / "zzz.png")
    log = Log()
    data = load(str(root), cache, emit=log)
    assert data.shape == (3, 8, 8) and len(data.train) + len(data.test) == 284
    assert "not all: decoding as RGB" in log.notes and "283 grey-scale" in log.notes


def test_images_of_several_sizes_need_a_resolution(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 3, "b": 3})
    image(1, size=(12, 9)).save(root / "b" / "odd.png")
    with pytest.raises(DataError, match=r"b/odd\.png is 12x9, the first image is 8x8") as caught:
        load(str(root), cache)
    assert "`data.resolution`" in caught.value.hint
    assert load(str(root), cache, resolution=6).shape == (3, 6, 6)


def test_a_bad_image_is_named_wherever_it_lies(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 150, "b": 150})
    (root / "b" / "077.png").write_bytes((root / "b" / "077.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"/b/077\.png is damaged"):
        load(str(root), cache)
    shutil.copy(root / "b" / "000.png", root / "b" / "077.png")
    (root / "a" / "001.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"/a/001\.jpg is not an image"):
        load(str(root), cache)


def test_an_empty_class_folder_is_named(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 3, "b": 3, "c": 0})
    with pytest.raises(DataError, match=r"class folder .*/c has no images"):
        load(str(root), cache)


def test_an_empty_test_class_folder_is_named(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set" / "train", {"a": 3, "b": 3})
    folder(tmp_path / "set" / "val", {"a": 3, "b": 0})
    with pytest.raises(DataError, match=r"class folder .*/val/b has no images"):
        load(str(tmp_path / "set"), cache)


def test_a_test_class_without_training_images_is_refused(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set" / "train", {"a": 3, "b": 3})
    folder(tmp_path / "set" / "test", {"a": 3, "z": 1})
    with pytest.raises(DataError, match="is of class 'z', which has no training images"):
        load(str(tmp_path / "set"), cache)


def test_a_class_without_test_images_is_noted(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set" / "train", {"a": 3, "b": 3})
    folder(tmp_path / "set" / "test", {"b": 3})
    log = Log()
    assert load(str(tmp_path / "set"), cache, emit=log).test.labels.tolist() == [1, 1, 1]
    assert "1 of 2 classes have no test image" in log.notes


def test_an_empty_folder_says_what_it_should_have(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="there are no images in") as caught:
        load(str(tmp_path / "set"), cache)
    assert "a folder of images for each class" in caught.value.hint
    assert not cache.exists() or not [p for p in (cache / "data").iterdir() if p.is_dir()]


def test_images_without_class_folders_are_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "set").mkdir()
    image(0).save(tmp_path / "set" / "0.png")
    with pytest.raises(DataError, match="has no class folders"):
        load(str(tmp_path / "set"), cache)


def test_a_single_class_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="single class"):
        load(str(folder(tmp_path / "set", {"a": 5})), cache)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt is not a data set"):
        load(str(tmp_path / "notes.txt"), cache)


def test_hidden_and_other_files_are_left_out(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 5, "b": 5})
    folder(root, {".git": 2, "__MACOSX": 2})
    (root / "a" / "notes.txt").write_text("x")
    (root / "b" / ".hidden.png").write_text("x")
    assert load(str(root), cache).classes == ("a", "b")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 5, "b": 5})
    outside = folder(tmp_path / "outside", {"c": 3})
    (root / "a" / "leak.png").symlink_to(outside / "c" / "000.png")
    (root / "c").symlink_to(outside / "c")
    (root / "b" / "loop.png").symlink_to(root / "b" / "loop.png")
    (root / "b" / "inside.png").symlink_to(root / "b" / "000.png")
    log = Log()
    data = load(str(root), cache, emit=log)
    assert data.classes == ("a", "b") and len(data.train) + len(data.test) == 11
    assert "3 symbolic links" in log.notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_does_not_block(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 5, "b": 5})
    os.mkfifo(root / "a" / "pipe.png")
    assert len(list_files(root).files) == 10
    assert load(str(root), cache).num_classes == 2


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set" / Path(*["d"] * 20)).mkdir(parents=True)
    with pytest.raises(DataError, match="nested more than"):
        list_files(tmp_path / "set")


def test_the_folder_of_a_known_set_gets_its_shape(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "tin" / "train", {"n01443537": 3, "n02124075": 3}, size=(70, 64))
    folder(tmp_path / "tin" / "val", {"n01443537": 1, "n02124075": 1}, mode="L")
    log = Log()
    data = load("tiny-imagenet", cache, path=tmp_path / "tin", emit=log)
    assert data.shape == (3, 64, 64) and data.name == "tiny-imagenet" and data.classes == ("n01443537", "n02124075")
    assert "this copy of tiny-imagenet has 2 classes" in log.notes and "8 images were scaled" in log.notes


def test_a_file_that_vanishes_while_decoding_is_named(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 300, "b": 2})

    def emit(event: object) -> None:
        raise AssertionError(event)

    from apmctl_core.data.build import build, choose_format
    from apmctl_core.data.labels import assemble
    from apmctl_core.formats.registry import open_local

    data = assemble(open_local(list_files(root), None, emit), emit)
    fmt = choose_format(data.rows, None, None)
    (root / "b" / "001.png").unlink()
    cache.mkdir()
    with pytest.raises(DataError, match=r"b/001\.png cannot be read"):
        build(data, fmt, cache / "key", {}, emit)
    assert list(cache.iterdir()) == []
    with pytest.raises(StoreError):
        build(data, fmt, tmp_path / "set" / "a" / "000.png" / "key", {}, emit)
