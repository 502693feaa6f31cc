"""Stratified draws."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from apmctl_core.data import stratified_sample
from apmctl_core.errors import DataError

LABELS = np.array([2, 0, 1, 0, 2, 1, 0, 2, 1, 0])


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_draw_is_ordered_by_class_without_repetition_and_repeatable() -> None:
    drawn = stratified_sample(LABELS, 3, rng(0))
    assert LABELS[drawn].tolist() == [0] * 3 + [1] * 3 + [2] * 3 and drawn.dtype == np.int64
    assert len(set(drawn.tolist())) == 9
    assert np.array_equal(drawn, stratified_sample(LABELS, 3, rng(0)))
    assert any(not np.array_equal(drawn, stratified_sample(LABELS, 3, rng(s))) for s in range(1, 4))


def test_every_image_can_be_drawn() -> None:
    generator = rng(0)
    seen = {int(i) for _ in range(60) for i in stratified_sample(LABELS, 1, generator)}
    assert seen == set(range(10))


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'frog' has 3 images, `distill\.ipc` 5 asks for more") as caught:
        stratified_sample(np.repeat([0, 1], [9, 3]), 5, rng(0), ("cat", "frog"))
    assert caught.value.hint == "set `distill.ipc` to 3 or less"


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(DataError, match="class '1' has 0 images"):
        stratified_sample(np.array([0, 2]), 1, rng(0))
    with pytest.raises(DataError, match="class 'c' has 0 images"):
        stratified_sample(np.array([0, 1]), 1, rng(0), ("a", "b", "c"))
    with pytest.raises(DataError):
        stratified_sample(np.array([], dtype=np.int64), 1, rng(0))


def test_a_draw_from_imagenets_labels_takes_a_moment() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(1000), 1281))
    start = time.monotonic()
    assert len(stratified_sample(labels, 10, rng(0))) == 10_000
    assert time.monotonic() - start < 3
