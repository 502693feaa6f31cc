"""torchvision's native CIFAR files: read when they are the originals, refused otherwise."""

from __future__ import annotations

import hashlib
import importlib.abc
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from apmctl_core.data import KNOWN, load
from apmctl_core.errors import DataError


def write_cifar10(root: Path) -> dict[str, str]:
    """A tiny CIFAR-10 in the authors' format; returns the md5 of each file."""
    where = root / "cifar-10-batches-py"
    where.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files: dict[str, object] = {
        name: {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))} for name in names
    }
    files["batches.meta"] = {"label_names": list(KNOWN["cifar10"].classes)}
    sums = {}
    for name, content in files.items():
        data = pickle.dumps(content)
        (where / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    return sums


@pytest.mark.parametrize("inside", [False, True])
def test_native_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    from torchvision.datasets import CIFAR10

    sums = write_cifar10(tmp_path / "c")
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )
    where = tmp_path / "c" / "cifar-10-batches-py" if inside else tmp_path / "c"
    data = load("cifar10", tmp_path / "cache", path=where)
    assert data.shape == (3, 32, 32) and data.classes[9] == "truck"
    assert (len(data.train), data.test.labels.tolist()) == (50, list(range(10)))
    first = pickle.loads((tmp_path / "c" / "cifar-10-batches-py" / "data_batch_1").read_bytes())["data"]  # noqa: S301
    assert np.array_equal(data.train.images[:10], first.reshape(10, 3, 32, 32))


def test_a_pickle_that_is_not_the_original_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'exploded')!r}, 'w')",))

    write_cifar10(tmp_path / "c")
    (tmp_path / "c" / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"native files of cifar10 in .* are not the originals"):
        load("cifar10", tmp_path / "cache", path=tmp_path / "c")
    assert not (tmp_path / "exploded").exists()


def test_native_files_of_another_set_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "c")
    with pytest.raises(DataError, match="there are no images"):
        load("cifar100", tmp_path / "cache", path=tmp_path / "c")


@pytest.mark.parametrize("failure", [RuntimeError("operator torchvision::nms does not exist"), ImportError("gone")])
def test_a_torchvision_that_cannot_be_imported_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == "torchvision":
                raise failure

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    write_cifar10(tmp_path / "c")
    with pytest.raises(DataError, match=f"read by torchvision, which cannot be imported: {failure}") as error:
        load("cifar10", tmp_path / "cache", path=tmp_path / "c")
    assert "of one build" in error.value.hint
