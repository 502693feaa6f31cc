"""ZCA and mean/std: against their definitions, there and back, cached, compiled, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from apmctl_core.data import Dataset, Split, load, packed
from apmctl_core.data.fitting import EPS, check_size, fit, fit_zca, moments
from apmctl_core.data.preprocessing import Preprocessing, digest
from apmctl_core.errors import ArtifactError, ConfigError


def dataset(name: str = "x", n: int = 300, shape: tuple[int, int, int] = (3, 6, 5), seed: int = 0) -> Dataset:
    """Random images with neighbours that resemble each other."""
    noise = np.random.default_rng(seed).normal(120, 60, (n, *shape))
    images = (0.7 * noise + 0.3 * np.roll(noise, 1, axis=3)).clip(0, 255).astype(np.uint8)
    split = Split(images, np.arange(n) % 3)
    return Dataset(name, ("a", "b", "c"), split, split, f"{seed:064x}")


def test_moments_are_numpys_and_exact_in_chunks() -> None:
    images = dataset(n=2500).train.images
    flat = images.reshape(len(images), -1) / 255
    mean, covariance = moments(images)
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(flat.T), rtol=1e-9, atol=1e-12)
    again = moments(images[::-1])
    assert np.array_equal(mean, again[0]) and np.array_equal(covariance, again[1])


def test_the_extreme_pixel_values_do_not_overflow() -> None:
    images = np.zeros((2048, 1, 2, 2), dtype=np.uint8)
    images[::2, :, 0] = 255
    mean, covariance = moments(images)
    np.testing.assert_allclose(mean, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(covariance[:2, :2], 0.25 * 2048 / 2047)


def test_zca_is_symmetric_and_whitens_by_its_definition() -> None:
    images = dataset().train.images
    matrix = fit_zca(images).tensors["matrix"].numpy()
    covariance = np.cov(images.reshape(len(images), -1).T / 255)
    root = np.linalg.inv(matrix.astype(np.float64))
    np.testing.assert_allclose(root @ root, covariance + EPS * np.eye(len(covariance)), atol=1e-5)
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.parametrize("kind", ["zca", "standard"])
def test_the_inverse_gives_the_pixels_back(tmp_path: Path, kind: str) -> None:
    data = dataset()
    fitted = fit(data, kind, tmp_path)
    images = torch.from_numpy(data.test.images)
    back = fitted.inverse(fitted.forward(images))
    assert back.dtype == torch.float32 and back.shape == images.shape
    assert (back - images / 255).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["zca", "standard"])
def test_uint8_and_float_images_are_the_same(tmp_path: Path, kind: str) -> None:
    data = dataset()
    fitted = fit(data, kind, tmp_path)
    images = torch.from_numpy(data.train.images[:9])
    assert torch.equal(fitted.forward(images), fitted.forward(images.float() / 255))
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.allclose(fitted.forward(channels_last), fitted.forward(images), atol=1e-6)


def test_measured_statistics_standardise_each_channel(tmp_path: Path) -> None:
    data = dataset()
    out = fit(data, "standard", tmp_path).forward(torch.from_numpy(data.train.images))
    assert out.mean((0, 2, 3)).abs().max() < 1e-4 and (out.std((0, 2, 3)) - 1).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("name", "mean"), [("cifar10", 0.4914), ("cifar100", 0.4914), ("tiny-imagenet", 0.485), ("imagenet-1k", 0.485)]
)
def test_known_sets_have_their_published_constants(tmp_path: Path, name: str, mean: float) -> None:
    assert fit(dataset(name), "standard", tmp_path).tensors["mean"][0] == pytest.approx(mean)


def test_a_channel_of_one_value_does_not_divide_by_zero(tmp_path: Path) -> None:
    data = dataset()
    images = data.train.images.copy()
    images[:, 1] = 7
    flat = Dataset("x", data.classes, Split(images, data.train.labels), data.test, "1" * 64)
    out = fit(flat, "standard", tmp_path).forward(torch.from_numpy(images))
    assert out.isfinite().all() and out[:, 1].abs().max() < 1e-6


def test_zca_of_images_with_dead_pixels_is_finite(tmp_path: Path) -> None:
    data = load("digits", tmp_path)  # its corners never change
    fitted = fit(data, "zca", tmp_path)
    images = torch.from_numpy(np.array(data.test.images))
    assert fitted.forward(images).isfinite().all()
    assert (fitted.inverse(fitted.forward(images)) - images / 255).abs().max() < 1e-3


def test_zca_is_fitted_once_for_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit(dataset(), "zca", tmp_path)
    monkeypatch.setattr("apmctl_core.data.fitting.fit_zca", lambda images: pytest.fail("fitted again"))
    assert fit(dataset(), "zca", tmp_path).digest() == first.digest()
    with pytest.raises(pytest.fail.Exception):
        fit(dataset(seed=1), "zca", tmp_path)


def test_a_fit_that_an_earlier_version_cached_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit(dataset(), "zca", tmp_path)
    (path,) = (tmp_path / "preprocessing").glob("*.safetensors")
    whole = {**fitted.tensors, "inverse": torch.linalg.inv(fitted.tensors["matrix"]).contiguous()}
    save_file(whole, path, {"kind": "zca", "digest": digest("zca", whole)})
    monkeypatch.setattr("apmctl_core.data.fitting.fit_zca", lambda images: pytest.fail("fitted again"))
    assert fit(dataset(), "zca", tmp_path).digest() == fitted.digest()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_a_damaged_fit_is_made_again(tmp_path: Path, damage: str) -> None:
    first = fit(dataset(), "zca", tmp_path)
    (path,) = (tmp_path / "preprocessing").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    elif damage == "other":
        fit(dataset(shape=(1, 4, 4), seed=2), "zca", tmp_path)
        (other,) = (p for p in (tmp_path / "preprocessing").glob("*.safetensors") if p != path)
        data = bytearray(other.read_bytes())
    path.write_bytes(data if damage in ("flip", "other") else data[:-9] if damage == "truncate" else b"")
    assert fit(dataset(), "zca", tmp_path).digest() == first.digest()
    assert {p.suffix for p in (tmp_path / "preprocessing").glob("[!.]*")} == {".safetensors"}


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`data\.preprocessing` cannot be 'pca'"):
        fit(dataset(), "pca", tmp_path)


def test_zca_of_large_images_is_refused_with_a_way_out() -> None:
    check_size((3, 64, 64))
    with pytest.raises(ConfigError, match="ZCA of 224x224 images needs a matrix of 90") as caught:
        check_size((3, 224, 224))
    assert "`data.preprocessing` to standard" in caught.value.hint
    with pytest.raises(ConfigError):
        fit_zca(np.zeros((2, 3, 128, 128), dtype=np.uint8))


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("pca", {"mean": torch.zeros(3), "std": torch.ones(3)}),
        ("standard", {"mean": torch.zeros(3)}),
        ("standard", {"mean": torch.zeros(3), "std": torch.ones(4)}),
        ("standard", {"mean": torch.zeros(3, dtype=torch.float64), "std": torch.ones(3)}),
        ("zca", {"mean": torch.zeros(4), "matrix": torch.eye(3)}),
        ("zca", {"mean": torch.zeros(4), "matrix": torch.eye(4), "inverse": torch.eye(4)}),
        ("zca", {"mean": torch.zeros(()), "matrix": torch.eye(4)}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(kind: str, tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ArtifactError):
        Preprocessing(kind, tensors)


def test_the_digest_tells_transforms_apart(tmp_path: Path) -> None:
    zca = fit(dataset(), "zca", tmp_path)
    other = Preprocessing("zca", {**zca.tensors, "mean": zca.tensors["mean"] + 1e-6})
    digests = {zca.digest(), other.digest(), fit(dataset(), "standard", tmp_path).digest()}
    assert len(digests) == 3 and all(len(d) == 64 for d in digests)
    assert zca.to("cpu").digest() == zca.digest()


def test_zca_stays_exact_under_autocast(tmp_path: Path) -> None:
    fitted, images = fit(dataset(), "zca", tmp_path), torch.from_numpy(dataset().train.images[:4])
    expected = fitted.forward(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fitted.forward(images), expected)
        assert (fitted.inverse(expected) - images / 255).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["zca", "standard"])
def test_it_traces_into_one_graph(tmp_path: Path, kind: str) -> None:
    fitted, images = fit(dataset(), kind, tmp_path), torch.from_numpy(dataset().train.images[:4])
    traced = torch.compile(fitted.forward, fullgraph=True, backend="eager")
    assert torch.allclose(traced(images), fitted.forward(images))


def test_a_file_has_half_of_the_matrix_and_gives_all_of_it_back(tmp_path: Path) -> None:
    fitted = fit(dataset(), "zca", tmp_path)
    kept = packed.pack(fitted)
    features = len(fitted.tensors["mean"])
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == {
        "mean": (features,),
        "triangle": (features * (features + 1) // 2,),
    }
    assert sum(tensor.nbytes for tensor in kept.values()) == packed.bytes_of("zca", dataset().shape)
    assert torch.equal(packed.unpack(kept).tensors["matrix"], fitted.tensors["matrix"])


def test_ten_whitened_cifar_images_take_less_than_20_mb() -> None:
    assert packed.bytes_of("zca", (3, 32, 32)) + 10 * 4 * 3072 < 20e6


def test_a_matrix_that_no_whitening_has_is_refused() -> None:
    flat = Preprocessing("zca", {"mean": torch.zeros(4), "matrix": torch.zeros(4, 4)})
    with pytest.raises(ArtifactError, match="is not that of a whitening"):
        flat.inverse(torch.zeros(1, 1, 2, 2))
    crooked = {"mean": torch.zeros(2), "matrix": torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "inverse": torch.eye(2)}
    with pytest.raises(ArtifactError, match="not symmetric"):
        packed.unpack(crooked)


@pytest.mark.gpu
def test_it_works_on_a_gpu(tmp_path: Path) -> None:
    fitted = fit(dataset(), "zca", tmp_path)
    images = torch.from_numpy(dataset().train.images)
    moved = fitted.to("cuda").forward(images.cuda())
    assert moved.is_cuda and torch.allclose(moved.cpu(), fitted.forward(images), atol=1e-3)
