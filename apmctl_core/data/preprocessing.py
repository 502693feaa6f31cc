"""The space that networks train in: mean/std or ZCA, both ways, fitted once per data set.

Shape legend: N images of a data set, B of a batch, C channels, H x W pixels, D = C * H * W features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apmctl_core.data.dataset import Dataset, release
from apmctl_core.data.source import KNOWN
from apmctl_core.errors import ArtifactError, ConfigError, StoreError
from apmctl_core.events import Emit, silent
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import sweep
from apmctl_core.storage.locks import hold
from apmctl_core.storage.tensors import Dims, Layout

KINDS: dict[str, dict[str, Dims]] = {
    "standard": {"mean": ("C",), "std": ("C",)},
    "zca": {"mean": ("D",), "matrix": ("D", "D"), "inverse": ("D", "D")},
}
EPS = 0.1
MAX_MATRIX_BYTES = 1 << 30
_SAMPLE = 512  # images whose variance is measured
_NATURAL, _LEAST = 0.063, 1e-3  # variances: that of CIFAR-10, and where images are nearly the same
_CHUNK = 1024  # rows of a product: 1024 products of numbers in -128..127 add up exactly in float32 (2^24)


def layouts(kind: str, shape: tuple[int, int, int]) -> dict[str, Layout]:
    """Names, dtypes and shapes of the tensors of a kind, for images (C, H, W)."""
    sizes: dict[str | int, int] = {"C": shape[0], "D": math.prod(shape)}
    return {name: Layout("F32", tuple(sizes[dim] for dim in dims)) for name, dims in KINDS[kind].items()}


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A transform of images with its inverse.

    `kind` is "standard", with `tensors` mean and std (C,), or "zca", with mean (D,), matrix and inverse (D, D); all
    float32. Raises ArtifactError if these are not the tensors of that kind.
    """

    kind: str
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.kind not in KINDS or set(self.tensors) != set(KINDS[self.kind]):
            names = ", ".join(sorted(self.tensors))
            raise ArtifactError(f"preprocessing '{self.kind}' with tensors {names} is unknown")
        n = self.tensors["mean"].numel()
        for name, dims in KINDS[self.kind].items():
            tensor = self.tensors[name]
            if tuple(tensor.shape) != (n,) * len(dims) or tensor.dtype != torch.float32:
                raise ArtifactError(f"the preprocessing's {name} has the wrong shape or type")

    def forward(self, images: Tensor) -> Tensor:
        """Bring images uint8 (0..255) or float in [0, 1], (B, C, H, W), into the space that networks train in.

        Returns float32 (B, C, H, W). Only tensor operations, so it may be compiled; ZCA's product is float32 even
        under autocast (whitened pixels in bf16 would not come back within 1e-3).
        """
        pixels = images.to(torch.float32)
        if images.dtype == torch.uint8:
            pixels = pixels / 255
        if self.kind == "standard":
            return (pixels - self._channel("mean")) / self._channel("std")
        return _product(pixels.flatten(1) - self.tensors["mean"], self.tensors["matrix"]).reshape(pixels.shape)

    def inverse(self, images: Tensor) -> Tensor:
        """Bring images of `forward`'s space, (B, C, H, W), back to pixels, about [0, 1] and not clipped, float32."""
        images = images.to(torch.float32)
        if self.kind == "standard":
            return images * self._channel("std") + self._channel("mean")
        return (_product(images.flatten(1), self.tensors["inverse"]) + self.tensors["mean"]).reshape(images.shape)

    def _channel(self, name: str) -> Tensor:
        return self.tensors[name].view(1, -1, 1, 1)

    def to(self, device: torch.device | str) -> Preprocessing:
        """The same transform with its tensors on `device`."""
        return Preprocessing(self.kind, {name: tensor.to(device) for name, tensor in self.tensors.items()})

    def digest(self) -> str:
        """sha256 (hex) over kind, names, shapes and content of the tensors."""
        sha = hashlib.sha256(self.kind.encode())
        for name, tensor in sorted(self.tensors.items()):
            sha.update(f"\n{name} {list(tensor.shape)}\n".encode())
            sha.update(io.raw_bytes(tensor))
        return sha.hexdigest()


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return x @ matrix


def _measure(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel of uint8 images (N, C, H, W) in [0, 1], by exact sums."""
    n, channels = len(images), images.shape[1]
    count = n * images.shape[2] * images.shape[3]
    bins = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, n, 4096):
        chunk = images[start : start + 4096]
        bins += np.stack([np.bincount(chunk[:, c].reshape(-1), minlength=256) for c in range(channels)])
        release(images)
    values = np.arange(256) / 255
    mean = bins @ values / count
    std = np.sqrt((bins * (values - mean[:, None]) ** 2).sum(axis=1) / count)
    # A channel of one value has nothing to scale.
    return torch.from_numpy(mean).float(), torch.from_numpy(np.where(std < 1e-6, 1.0, std)).float()


def _standard(dataset: Dataset) -> Preprocessing:
    spec = KNOWN.get(dataset.name)
    # The constants of the published runs hold whatever part of the set is at hand.
    if spec is not None and spec.mean_std is not None and len(spec.mean_std[0]) == dataset.shape[0]:
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in spec.mean_std)
    else:
        mean, std = _measure(dataset.train.images)
    return Preprocessing("standard", {"mean": mean, "std": std})


def check_size(shape: tuple[int, int, int]) -> None:
    """Raise ConfigError if the whitening matrix of images of this shape would take more than 1 GB."""
    features = int(np.prod(shape))
    if features * features * 4 > MAX_MATRIX_BYTES:
        raise ConfigError(
            f"ZCA of {shape[1]}x{shape[2]} images needs a matrix of {features * features * 4 / 1e9:.1f} GB",
            "set `data.preprocessing` to standard, or a lower `data.resolution`",
        )


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D), float64, of uint8 images (N, C, H, W) scaled to [0, 1]; N at least 2.

    The sums are those of whole numbers and exact, so that neither the order nor the number of threads matters; they
    are made in pieces, and memory does not depend on N.
    """
    n, features = len(images), int(np.prod(images.shape[1:]))
    total = np.zeros(features)
    products = np.zeros((features, features))
    for start in range(0, n, _CHUNK):
        x = images[start : start + _CHUNK].reshape(-1, features).astype(np.float32) - np.float32(128)
        total += x.sum(axis=0, dtype=np.float64)
        products += x.T @ x
        release(images)
    products -= np.outer(total, total / n)
    products /= (n - 1) * 255.0**2
    return (total / n + 128) / 255, products


def fit_zca(images: np.ndarray) -> Preprocessing:
    """The ZCA transform of uint8 images (N, C, H, W) in [0, 1]: W = U (S + eps)^(-1/2) U^T with eps 0.1.

    S and U are the eigenvalues and eigenvectors of the covariance of the training images; the inverse has the power
    +1/2. Raises ConfigError if the matrix would exceed 1 GB.
    """
    c, h, w = images.shape[1:]
    check_size((c, h, w))
    mean, covariance = moments(images)
    values, vectors = np.linalg.eigh(covariance)  # half the time of torch's on a CPU
    root = np.sqrt(values.clip(min=0) + EPS)
    both = ((vectors / root) @ vectors.T, (vectors * root) @ vectors.T)
    matrix, inverse = (torch.from_numpy((0.5 * (m + m.T)).astype(np.float32)) for m in both)
    return Preprocessing("zca", {"mean": torch.from_numpy(mean).float(), "matrix": matrix, "inverse": inverse})


def fit(dataset: Dataset, kind: str, cache: Path, emit: Emit = silent) -> Preprocessing:
    """The preprocessing of a data set, "standard" or "zca", fitted on its training images; ZCA once per fingerprint.

    standard: the constants of a known set's `mean_std`, measured for all others.
    zca: see `fit_zca`; kept in `cache`, checked by its digest when it is read. Raises ConfigError for another kind
    or a ZCA beyond 1 GB, StoreError if the cache cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"`data.preprocessing` cannot be '{kind}'", f"choose one of: {', '.join(KINDS)}")
    if kind == "standard":  # quicker to measure than to check
        return _standard(dataset)
    path = cache / "preprocessing" / f"{kind}-{dataset.fingerprint}.safetensors"
    fitted = _stored(path, dataset)
    if fitted is None:
        # One process at a time, so that several do not compute the covariance of a large set at once.
        with hold(path.parent, path.stem, f"the ZCA of {dataset.name}", emit=emit):
            sweep(path.parent, path.stem)
            fitted = _stored(path, dataset)  # another process may have written it meanwhile
            if fitted is None:
                fitted = fit_zca(dataset.train.images)
                io.write(path, fitted.tensors, {"kind": kind, "digest": fitted.digest()})
    return fitted


def variance(dataset: Dataset | None, kind: str) -> float:
    """The mean variance of a value of the training images after preprocessing, rounded, of some of them.

    By definition 1 for "standard". For "zca" a direction of variance s has s / (s + eps) of it left. Rounded so that
    it is the same on all machines. Without data it is what natural images have.
    """
    if kind == "standard":
        return 1.0
    if dataset is None:
        return _NATURAL
    images = dataset.train.images
    # Evenly spread: images of a folder lie in the order of their classes.
    spread = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(np.int64)
    x = images[spread].reshape(-1, math.prod(dataset.shape)) / 255
    x -= x.mean(axis=0)
    # The eigenvalues of the covariance that are not zero, from the products of images instead of those of pixels.
    s = np.linalg.eigvalsh(x @ x.T / max(1, len(x) - 1)).clip(min=0)
    return max(_LEAST, float(f"{(s / (s + EPS)).sum() / x.shape[1]:.1e}"))


def _stored(path: Path, dataset: Dataset) -> Preprocessing | None:
    try:
        tensors, metadata = io.read(path, layouts("zca", dataset.shape))
    except (ArtifactError, StoreError):
        return None
    stored = Preprocessing("zca", tensors)
    return stored if stored.digest() == metadata.get("digest") else None
