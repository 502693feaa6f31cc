"""Images that cannot be decoded: listed in one error, or left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apmctl_core.data import find_cached, load
from apmctl_core.errors import DataError
from tests.apmctl_core.data.makers import Log, folder, image


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def spoil(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"no image")


def splits(root: Path, train: int = 90) -> Path:
    folder(root / "train", {"a": train, "b": train})
    folder(root / "test", {"a": 3, "b": 3})
    return root


def test_all_broken_images_are_listed_in_one_error(tmp_path: Path, cache: Path) -> None:
    root = splits(tmp_path / "set")
    spoil(root, "train/a/000.png", "train/a/089.png", "train/b/070.png", "test/b/001.png")
    data = (root / "train" / "b" / "003.png").read_bytes()
    (root / "train" / "b" / "003.png").write_bytes(data[:60])
    with pytest.raises(DataError, match="5 images are broken: ") as caught:
        load(str(root), cache)
    listed = caught.value.message.removeprefix("5 images are broken: ").split("; ")
    assert [line.split(" is ")[0].removeprefix(f"{root}/") for line in listed] == [
        *("train/a/000.png", "train/a/089.png", "train/b/003.png", "train/b/070.png", "test/b/001.png"),
    ]
    assert "003.png is damaged" in listed[2]
    assert "`skip_broken`" in caught.value.hint
    assert [p for p in (cache / "data").iterdir() if p.is_dir()] == []


def test_of_many_broken_images_the_first_ones_are_named_and_all_are_counted(tmp_path: Path, cache: Path) -> None:
    root = splits(tmp_path / "set", 30)
    spoil(root, *(f"train/a/{i:03}.png" for i in range(25)))
    with pytest.raises(DataError, match=r"25 images are broken: .* and 5 more$") as caught:
        load(str(root), cache)
    assert caught.value.message.count(".png is not an image") == 20


def test_broken_images_are_left_out_and_the_copy_says_so(tmp_path: Path, cache: Path) -> None:
    root, names = splits(tmp_path / "set"), ("train/a/000.png", "train/b/070.png", "test/b/001.png")
    spoil(root, *names)
    data = load(str(root), cache, skip_broken=True)
    assert np.bincount(data.train.labels).tolist() == [89, 89]
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1]
    listed = ", ".join(str(root / name) for name in names)
    assert data.notes == (f"left out 3 broken images: {listed}",)
    assert data.split == "test/ (5 images)"
    again = find_cached(str(root), cache, skip_broken=True)
    assert again is not None
    assert (again.notes, again.fingerprint) == (data.notes, data.fingerprint)
    assert find_cached(str(root), cache) is None
    with pytest.raises(DataError, match="3 images are broken"):
        load(str(root), cache)
    for name in names:
        (root / name).unlink()
    assert load(str(root), cache).fingerprint == data.fingerprint


def test_a_copy_with_all_images_serves_those_who_would_leave_some_out(tmp_path: Path, cache: Path) -> None:
    root = str(splits(tmp_path / "set", 3))
    load(root, cache)
    log = Log()
    data = load(root, cache, skip_broken=True, emit=log)
    assert (data.notes, log) == ((), [])


def test_the_counts_of_a_held_out_part_are_those_of_the_images_that_are_left(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 10, "b": 10})
    spoil(root, "a/000.png")
    data = load(str(root), cache, skip_broken=True)
    assert len(data.train) + len(data.test) == 19
    assert data.split == f"a held-out fifth of the images ({len(data.test)} of 19)"
    assert data.notes[-1] == f"left out a broken image: {root}/a/000.png"


def test_a_class_without_any_sound_image_is_refused(tmp_path: Path, cache: Path) -> None:
    root = splits(tmp_path / "set", 3)
    spoil(root, *(f"train/b/00{i}.png" for i in range(3)))
    with pytest.raises(DataError, match="all training images of class 'b' are broken"):
        load(str(root), cache, skip_broken=True)


def test_a_set_without_any_image_is_refused(tmp_path: Path, cache: Path) -> None:
    root = splits(tmp_path / "set", 3)
    spoil(root, *(str(path.relative_to(root)) for path in root.rglob("*.png")))
    with pytest.raises(DataError, match=r"a/000\.png is not an image"):
        load(str(root), cache, skip_broken=True)


def test_images_of_another_size_are_not_broken(tmp_path: Path, cache: Path) -> None:
    root = splits(tmp_path / "set", 3)
    image(1, size=(12, 9)).save(root / "train" / "b" / "odd.png")
    spoil(root, "train/b/000.png")
    with pytest.raises(DataError, match=r"odd\.png is 12x9"):
        load(str(root), cache, skip_broken=True)


def test_colour_after_broken_and_grey_images_starts_again(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "set", {"a": 280, "b": 5}, mode="L")
    spoil(root, "a/000.png", "b/000.png")
    image(5).save(root / "b" / "zzz.png")
    data = load(str(root), cache, skip_broken=True)
    assert (data.shape, len(data.train) + len(data.test)) == ((3, 8, 8), 284)
    assert data.notes[-1] == f"left out 2 broken images: {root}/a/000.png, {root}/b/000.png"
