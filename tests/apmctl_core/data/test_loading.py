"""Loading by name, the cache and its damage, the fixed split, and what is announced."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apmctl_core.data import KNOWN, find_cached, find_fingerprint, load, release
from apmctl_core.data.cache import ArrayWriter
from apmctl_core.data.labels import assemble
from apmctl_core.data.loading import parse
from apmctl_core.data.source import Rows, Source, in_batches
from apmctl_core.data.splits import held_out
from apmctl_core.errors import ConfigError, DataError, StoreError
from apmctl_core.storage.locks import hold
from tests.apmctl_core.data.makers import Log, folder, parquet, rows

# A change of these numbers changes every result on digits: bump the cache's version and say so in the changelog.
DIGITS = "f8f530da"


def only(parent: Path, pattern: str = "[!.]*") -> Path:
    (found,) = [p for p in (parent / "data").glob(pattern) if p.is_dir()]
    return found


def test_digits_has_the_documented_shape_range_and_split(tmp_path: Path) -> None:
    data = load("digits", tmp_path)
    assert (data.shape, data.num_classes, data.classes[3]) == ((1, 8, 8), 10, "3")
    assert (len(data.train), len(data.test)) == (KNOWN["digits"].train, KNOWN["digits"].test)
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int64
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)
    assert isinstance(data.train.images, np.memmap) and not data.train.images.flags.writeable


def test_digits_pixels_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data, bunch = load("digits", tmp_path), load_digits()
    mask = held_out(bunch.target.astype(np.int64), data.classes)
    expected = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    assert np.array_equal(data.test.images[:, 0], expected[mask])
    assert np.array_equal(data.train.labels, bunch.target[~mask])


def test_digits_fingerprint_stays_what_it_was(tmp_path: Path) -> None:
    fingerprint = load("digits", tmp_path).fingerprint
    assert len(fingerprint) == 64 and fingerprint.startswith(DIGITS)


def test_a_second_load_reads_the_cache_without_decoding(tmp_path: Path) -> None:
    first, log = load("digits", tmp_path), Log()
    before = {p: p.stat().st_mtime_ns for p in only(tmp_path).iterdir()}
    again = load("digits", tmp_path, emit=log)
    assert again.fingerprint == first.fingerprint and log == []
    assert before == {p: p.stat().st_mtime_ns for p in only(tmp_path).iterdir()}


@pytest.mark.parametrize(
    ("name", "resolution", "key"),
    [
        ("digits", None, "digits-207aa3a71613fe99"),
        ("cifar10", None, "cifar10-8f52092409b16776"),
        ("imagenet-1k", 32, "imagenet-1k-35fdafeab79b1510"),
    ],
)
def test_caches_of_earlier_versions_keep_their_keys(name: str, resolution: int | None, key: str) -> None:
    assert parse(name, None, resolution).key == key


def test_find_cached_finds_only_what_was_loaded(tmp_path: Path) -> None:
    assert find_cached("digits", tmp_path) is None and not any(tmp_path.iterdir())
    data = load("digits", tmp_path)
    found = find_cached("digits", tmp_path)
    assert found is not None and found.fingerprint == data.fingerprint
    assert find_cached("digits", tmp_path, resolution=16) is None
    assert find_cached("cifar10", tmp_path) is None


def test_a_set_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    data = load("digits", tmp_path)
    found = find_fingerprint(data.fingerprint, tmp_path, name="digits")
    assert found is not None and found.name == "digits"
    assert find_fingerprint("0" * 64, tmp_path) is None and find_fingerprint("", tmp_path / "none") is None


def test_finding_a_set_imports_neither_torch_nor_the_loaders(tmp_path: Path) -> None:
    load("digits", tmp_path)
    code = (
        "import sys, pathlib; from apmctl_core.data import find_cached;"
        f"assert find_cached('digits', pathlib.Path({str(tmp_path)!r})) is not None;"
        "print([m for m in ('torch', 'PIL', 'pyarrow', 'sklearn', 'datasets', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_resolution_scales_and_is_a_set_of_its_own(tmp_path: Path) -> None:
    log = Log()
    data = load("digits", tmp_path, resolution=16, emit=log)
    assert data.shape == (1, 16, 16) and "scaled and cropped to 16x16" in log.notes
    assert load("digits", tmp_path).fingerprint != data.fingerprint
    assert load("digits", tmp_path, resolution=8).fingerprint == load("digits", tmp_path).fingerprint
    assert len([p for p in (tmp_path / "data").iterdir() if p.is_dir()]) == 2


@pytest.mark.parametrize("resolution", [0, -1, 100_000])
def test_a_senseless_resolution_is_refused(tmp_path: Path, resolution: int) -> None:
    with pytest.raises(ConfigError, match=r"`data\.resolution`"):
        load("digits", tmp_path, resolution=resolution)


def test_an_unknown_name_gets_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown data set 'cifar-10'") as caught:
        load("cifar-10", tmp_path)
    assert "did you mean 'cifar10'" in caught.value.hint and "tiny-imagenet" in caught.value.hint
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "x\0y", "q" * 5000, "nonsense"])
def test_a_name_that_is_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        load(name, tmp_path)


@pytest.mark.parametrize("name", ["hf:", "hf:one", "hf:../etc", "hf:a/b/c", "hf:a/b@../../x", "hf:a b/c"])
def test_a_malformed_hub_name_is_refused_without_network(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="name a Hub data set"):
        load(name, tmp_path)


def test_data_option_goes_only_with_sets_that_lie_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`data_path`"):
        load("digits", tmp_path, path=tmp_path)
    with pytest.raises(ConfigError, match="`data_path`"):
        load("./pictures", tmp_path, path=tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no data set at .*/nowhere"):
        load(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(DataError, match=r"there is no data set at .*/nowhere"):
        load("cifar10", tmp_path, path=tmp_path / "nowhere")


def test_the_held_out_fifth_is_stratified_and_fixed() -> None:
    labels = np.repeat(np.arange(3), [10, 7, 2])
    mask = held_out(labels, ("a", "b", "c"))
    assert np.bincount(labels[mask]).tolist() == [2, 1, 1]
    assert np.flatnonzero(mask).tolist() == np.flatnonzero(held_out(labels.copy(), ("a", "b", "c"))).tolist()
    assert np.flatnonzero(mask).tolist() == [2, 4, 10, 18]


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 'b' has 1 image"):
        held_out(np.array([0, 0, 1]), ("a", "b"))


@pytest.mark.parametrize("counts", [(3, 4), (4, 3), (3, 5), (5, 3)])
def test_a_source_that_changed_since_its_labels_were_read_is_refused(counts: tuple[int, int]) -> None:
    images = [list(np.zeros((count, 8, 8), dtype=np.uint8)) for count in counts]
    train, test = (Rows(np.arange(4) % 2, in_batches(each, 2), str) for each in images)
    data = assemble(Source(train, (test,), None, ""), Log())
    with pytest.raises(DataError, match="the data set changed while it was read"):
        list(data.rows.batches())


DAMAGES = (
    "truncate",
    "grow",
    "missing",
    "meta",
    "garbage",
    "header",
    "classes",
    "labels",
    "fingerprint",
    "renamed",
    "zip",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_never_read_and_is_made_again(tmp_path: Path, damage: str) -> None:
    first = load("digits", tmp_path).fingerprint
    where = only(tmp_path)
    images, labels, meta = where / "train_images.npy", where / "train_labels.npy", where / "meta.json"
    raw = images.read_bytes()
    if damage == "truncate":
        images.write_bytes(raw[:-1])
    elif damage == "grow":
        images.write_bytes(raw + b"\0")
    elif damage == "missing":
        (where / "test_labels.npy").unlink()
    elif damage == "meta":
        meta.write_text(meta.read_text()[:-20])
    elif damage == "garbage":
        meta.write_text("[" * 100_000)
    elif damage == "header":
        images.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|O'" + raw[30:])
    elif damage == "classes":
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"classes": ["x"]}))
    elif damage == "fingerprint":
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"fingerprint": "0" * 64}))
    elif damage == "renamed":
        meta.write_text(meta.read_text().replace('"3"', '"three"'))
    elif damage == "zip":
        np.savez(images.with_suffix(""), a=np.zeros(3))
        images.with_suffix(".npz").rename(images)
    elif damage == "labels":
        content = labels.read_bytes()
        labels.write_bytes(content[:-8] + (99).to_bytes(8, "little"))
    assert find_cached("digits", tmp_path) is None
    log = Log()
    assert load("digits", tmp_path, emit=log).fingerprint == first
    assert "damaged" in log.notes and find_cached("digits", tmp_path) is not None


class Bomb:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("array", [False, True])
def test_no_pickle_in_a_cache_is_read(tmp_path: Path, array: bool) -> None:
    load("digits", tmp_path)
    images, mark = only(tmp_path) / "train_images.npy", tmp_path / "mark"
    if array:
        np.save(images, np.array([Bomb(mark)], dtype=object))
    else:
        images.write_bytes(pickle.dumps(Bomb(mark)))
    assert find_cached("digits", tmp_path) is None
    assert not mark.exists()


def test_a_decoding_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = folder(tmp_path / "set", {"a": 3, "b": 3})
    (bad / "b" / "001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"001\.png is not an image"):
        load(str(bad), tmp_path / "cache")
    assert [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()] == []


def test_leftovers_of_a_killed_decoding_are_swept(tmp_path: Path) -> None:
    load("digits", tmp_path)
    where = only(tmp_path)
    leftover = where.with_name(f".{where.name}.dead")
    leftover.mkdir()
    (leftover / "train_images.npy").write_bytes(b"half")
    shutil.rmtree(where)
    assert find_cached("digits", tmp_path) is None
    load("digits", tmp_path)
    assert not leftover.exists()


def test_threads_that_load_the_same_set_decode_it_once(tmp_path: Path) -> None:
    log, results = Log(), []
    threads = [
        threading.Thread(target=lambda: results.append(load("digits", tmp_path, emit=log).fingerprint))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1 and len(results) == 4
    assert sum(p.done == p.total for p in log.progress) == 1


def test_waiting_for_another_process_is_announced(tmp_path: Path) -> None:
    log = Log()
    thread = threading.Thread(target=lambda: load("digits", tmp_path, emit=log))
    with hold(tmp_path / "data", parse("digits", None, None).key, "decoding digits"):
        thread.start()
        time.sleep(1)
        assert find_cached("digits", tmp_path) is None
    thread.join(20)
    assert f"waiting for process {os.getpid()}" in log.notes and "to finish decoding digits" in log.notes
    assert find_cached("digits", tmp_path) is not None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_without_permission_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot make"):
        load("digits", tmp_path)


def test_a_cache_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StoreError, match="not a directory"):
        load("digits", tmp_path / "cache")


def test_space_is_checked_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    with pytest.raises(StoreError, match=r"has 1 MB free, 1 MB are needed"):
        load("digits", tmp_path)
    assert find_cached("digits", tmp_path) is None


def test_a_full_disk_is_a_store_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with (
        ArrayWriter(Path("/dev/full"), (1 << 20,), "uint8") as writer,
        pytest.raises(StoreError, match="the disk is full"),
    ):
        writer.append(np.zeros(1 << 20, dtype=np.uint8))
        writer.finish()


def test_progress_comes_in_steps_and_ends_with_the_total(tmp_path: Path) -> None:
    log = Log()
    load("digits", tmp_path, emit=log)
    done = [p.done for p in log.progress]
    assert done[-1] == log.progress[-1].total == 1797 and len(done) == 2 and done == sorted(done)


def test_the_same_images_have_the_same_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    items = rows(10)
    one = parquet(tmp_path / "one" / "train-00000.parquet", items).parent
    two = parquet(tmp_path / "two" / "data" / "train.parquet", items, row_group=3).parent.parent
    other = parquet(tmp_path / "three" / "train.parquet", [*items[:-1], rows(1, start=99)[0] | {"label": 1}]).parent
    prints = [load(str(p), tmp_path / "cache").fingerprint for p in (one, two, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_changed_folder_is_decoded_again(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"a": 5, "b": 5})
    first = load(str(root), tmp_path / "cache")
    folder(tmp_path / "set", {"c": 5})
    assert find_cached(str(root), tmp_path / "cache") is None
    second = load(str(root), tmp_path / "cache")
    assert second.classes == ("a", "b", "c") and second.fingerprint != first.fingerprint


def test_a_folder_whose_images_changed_in_place_is_decoded_again(tmp_path: Path) -> None:
    root, cache = folder(tmp_path / "set", {"a": 5, "b": 5}), tmp_path / "cache"
    load(str(root), cache)
    path = root / "b" / "003.png"
    content, changed = path.read_bytes(), path.stat().st_mtime_ns

    def is_found(content: bytes, changed: int) -> bool:
        path.write_bytes(content)
        os.utime(path, ns=(changed, changed))
        return find_cached(str(root), cache) is not None

    assert not is_found(content + b"\0", changed)  # its size differs
    assert not is_found(content[::-1], changed + 1000)  # its time of change differs
    assert is_found(content, changed)


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "digits", {"a": 5, "b": 5})
    folder(tmp_path / "pictures", {"a": 5, "b": 5})
    monkeypatch.chdir(tmp_path)
    assert load("digits", tmp_path / "cache").num_classes == 10
    assert load("./digits", tmp_path / "cache").num_classes == 2
    assert load("pictures", tmp_path / "cache").num_classes == 2


def test_released_pages_are_read_again(tmp_path: Path) -> None:
    images = load("digits", tmp_path).train.images
    before = int(images.sum(dtype=np.int64))
    release(images)
    release(images[3:7])
    release(np.zeros(3))
    assert int(images.sum(dtype=np.int64)) == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no resident memory to read")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    code = """
import pathlib, resource, sys
from apmctl_core.data import load
load(sys.argv[1], pathlib.Path(sys.argv[2]), resolution=96)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def peak(count: int) -> int:
        items = rows(20)
        parquet(tmp_path / f"{count}.parquet", items * (count // 20), row_group=count)
        command = [sys.executable, "-c", code, str(tmp_path / f"{count}.parquet"), str(tmp_path / "cache")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 12,000 images more are 332 MB more of pixels.
    assert peak(14_000) - peak(2_000) < 60
