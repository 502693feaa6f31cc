"""The Python road: a set as tensors, a torch data set, and test images in its space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import apmctl_core
from apmctl_core.artifacts import Store
from apmctl_core.errors import ArtifactError, DataError, NetworkError
from apmctl_core.hub.push import push

from .conftest import LocalHub
from .samples import put_pool, put_set, values, whitening


def test_a_set_is_loaded_by_its_name_its_path_or_from_the_hub(
    hub: LocalHub, store: Store, other: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, expected = put_set(store), values()
    push(store, made, name)
    monkeypatch.setenv("APMCTL_HOME", str(other.root))
    for loaded in (
        apmctl_core.load(made.path),
        apmctl_core.load(made.name, store=store.root),
        apmctl_core.load(f"hf:{name}"),
        apmctl_core.load(made.id),
    ):
        assert torch.equal(loaded.images, expected.images)
        assert torch.equal(loaded.logits, expected.logits)
        assert torch.equal(loaded.labels, expected.labels)
        assert loaded.classes == expected.classes
        assert loaded.artifact.id == made.id


def test_a_data_loader_takes_it_as_it_is(store: Store) -> None:
    loaded = apmctl_core.load(put_set(store, per_class=2).path)
    assert len(loaded) == 20
    images, logits, labels = next(iter(DataLoader(loaded, batch_size=8)))
    assert (images.shape, logits.shape, labels.shape) == ((8, 1, 8, 8), (8, 10), (8,))
    assert torch.equal(images[3], loaded.images[3])
    assert "20 images" in repr(loaded)


@pytest.mark.parametrize("zca", [False, True])
def test_test_images_come_into_the_space_of_the_set(store: Store, zca: bool) -> None:
    space = whitening() if zca else None
    loaded = apmctl_core.load(put_set(store, space=space).path)
    pixels = torch.arange(2 * 64).reshape(2, 1, 8, 8).to(torch.uint8)
    expected = loaded.preprocessing.forward(pixels)
    for given in (pixels, pixels.numpy(), pixels[:, 0], pixels / 255, (pixels / 255).double()):
        assert torch.allclose(loaded.preprocess(given), expected, atol=1e-5)


def test_channels_may_stand_last(store: Store) -> None:
    loaded = apmctl_core.load(put_set(store).path)
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
    assert torch.equal(loaded.preprocess(pixels), loaded.preprocess(pixels[..., 0]))


@pytest.mark.parametrize("shape", [(8, 8), (2, 1, 9, 8), (2, 3, 8, 8), (64,)])
def test_images_of_another_shape_are_refused(store: Store, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="shape"):
        apmctl_core.load(put_set(store).path).preprocess(torch.zeros(shape))


def test_what_is_no_set_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a set"):
        apmctl_core.load(put_pool(store).path)
    with pytest.raises(ArtifactError):
        apmctl_core.load(tmp_path)
    made = put_set(store)
    (made.path / "set.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="bytes"):
        apmctl_core.load(made.path)


def test_what_is_not_on_the_hub_is_an_error_of_the_network(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no data set"):
        apmctl_core.load("hf:tester/nothing", store=tmp_path)


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, apmctl_core.hub.find; assert not {'torch', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        apmctl_core.nothing  # noqa: B018
