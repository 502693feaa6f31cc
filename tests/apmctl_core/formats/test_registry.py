"""A file format that a test defines by one registration is recognised, decoded, and known to the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apmctl.cli import run
from apmctl_core.artifacts import Store
from apmctl_core.data import find_cached, load
from apmctl_core.data.source import DatasetSpec, Listing, Rows, Source, in_batches
from apmctl_core.data.walk import list_files
from apmctl_core.errors import DataError
from apmctl_core.events import Emit
from apmctl_core.formats.registry import FORMATS, FileFormat, formats, register
from tests.apmctl_core.data.makers import folder, parquet, rows
from tests.apmctl_core.data.test_known import TINY


def open_npz(listing: Listing, spec: DatasetSpec | None, emit: Emit) -> Source:
    """Open the first .npz file: `images` uint8 (N, H, W) and `labels`."""
    path = listing.root / listing.files[0].path
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    return Source(Rows(labels, in_batches(list(images)), lambda i: f"image {i} of {path}"), (), None, str(path))


@pytest.fixture
def npz() -> Iterator[None]:
    holds = "an .npz file with images and labels"
    register(FileFormat(name="npz", open=open_npz, suffixes=frozenset({".npz"}), single_file=True, holds=holds))
    yield
    del FORMATS["npz"]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    root = tmp_path / "arrays"
    root.mkdir()
    labels = np.arange(40) % 2
    images = np.random.default_rng(0).integers(0, 100, (40, 8, 8), dtype=np.uint8) + (100 * labels)[:, None, None]
    np.savez(root / "train.npz", images=images.astype(np.uint8), labels=labels)
    return root


@pytest.mark.usefixtures("npz")
def test_a_folder_of_a_new_format_is_distilled(tmp_path: Path, arrays: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    assert run(["distill", str(arrays), *TINY, "--store", str(store)]) == 0, capfd.readouterr().err
    (distilled,) = Store(store).list("set")
    assert distilled.manifest.shape == (1, 8, 8) and distilled.manifest.classes == ("0", "1")


@pytest.mark.usefixtures("npz")
def test_a_single_file_of_a_new_format_is_a_data_set(tmp_path: Path, arrays: Path) -> None:
    data = load(str(arrays / "train.npz"), tmp_path / "cache")
    assert (len(data.train), len(data.test)) == (32, 8)
    assert load(str(arrays), tmp_path / "cache").fingerprint == data.fingerprint


def test_files_of_no_format_are_left_out_and_the_error_lists_the_formats(tmp_path: Path, arrays: Path) -> None:
    assert list_files(arrays).files == ()
    with pytest.raises(DataError, match=r"there are no images in .*arrays") as caught:
        load(str(arrays), tmp_path / "cache")
    assert all(each.holds in caught.value.hint for each in formats())
    with pytest.raises(DataError, match=r"train\.npz is not a data set") as caught:
        load(str(arrays / "train.npz"), tmp_path / "cache")
    assert ".parquet" in caught.value.hint


def test_formats_are_tried_in_their_declared_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.name for each in formats()] == ["parquet", "cifar", "images"]
    root = folder(tmp_path / "set", {"a": 3, "b": 3})
    parquet(root / "train.parquet", rows(30))
    assert load(str(root), tmp_path / "cache").classes == ("0", "1")
    monkeypatch.delitem(FORMATS, "parquet")
    assert load(str(root), tmp_path / "cache").classes == ("a", "b")


def test_a_new_format_leaves_the_caches_of_other_folders_alone(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = folder(tmp_path / "set", {"a": 3, "b": 3})
    load(str(root), tmp_path / "cache")
    request.getfixturevalue("npz")
    assert find_cached(str(root), tmp_path / "cache") is not None


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'parquet' is already registered"):
        register(FORMATS["parquet"])
