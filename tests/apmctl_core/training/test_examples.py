"""Real images from a memory map: the same values, and little of the map resident."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from apmctl_core.data import Split
from apmctl_core.training import examples
from apmctl_core.training.examples import RealSource
from tests.helpers import standard

SMAPS = Path("/proc/self/smaps")


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "images.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (4000, 3, 64, 64), dtype=np.uint8))
    return Split(np.load(path, mmap_mode="r"), np.arange(4000) % 10), path


def resident(path):
    """Bytes of a mapped file that are resident in this process."""
    pattern = rf"{re.escape(str(path))}\n(?:\w+: .*\n)*?Rss: +(\d+) kB"
    return sum(int(size) * 1024 for size in re.findall(pattern, SMAPS.read_text()))


def source(split):
    return RealSource(split, standard(), torch.device("cpu"), "fp32")


@pytest.mark.skipif(not SMAPS.exists(), reason="needs Linux")
def test_a_pass_over_a_memory_map_leaves_little_of_it_resident(split, monkeypatch):
    monkeypatch.setattr(examples, "_RESIDENT", 4 << 20)
    images, path = split
    real = source(images)
    for part in torch.randperm(4000).split(50):
        real.batch(part)
    assert resident(path) < 12 << 20
    assert images.images.nbytes > 48_000_000


def test_values_are_those_of_the_rows_asked_for_also_after_pages_were_given_back(split, monkeypatch):
    monkeypatch.setattr(examples, "_RESIDENT", 1)
    images, _ = split
    real = source(images)
    for part in torch.randperm(4000)[:300].split(100):
        x, labels = real.batch(part)
        expected = standard().forward(torch.from_numpy(np.asarray(images.images)[part.numpy()]))
        assert torch.equal(x, expected)
        assert labels.tolist() == (part % 10).tolist()


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_come_in_their_order_whether_or_not_they_are_read_ahead(split, monkeypatch, ahead):
    if ahead:
        monkeypatch.setattr(examples, "_RESIDENT", 1 << 20)
    images, _ = split
    real = source(images)
    parts = list(torch.randperm(4000)[:300].split(64))
    found = list(real.batches(iter(parts)))
    assert len(found) == len(parts)
    for part, (x, labels) in zip(parts, found, strict=True):
        assert torch.equal(x, real.batch(part)[0])
        assert labels.tolist() == (part % 10).tolist()
    assert list(real.batches(iter([]))) == []


def test_a_batch_that_cannot_be_read_raises_where_it_is_asked_for(split, monkeypatch):
    monkeypatch.setattr(examples, "_RESIDENT", 1)
    images, _ = split
    found = source(images).batches(iter([torch.arange(4), torch.tensor([4000])]))
    next(found)
    with pytest.raises(IndexError):
        next(found)
