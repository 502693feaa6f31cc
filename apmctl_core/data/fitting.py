"""Preprocessings fitted to a data set: its channels' mean and standard deviation, or ZCA, once per fingerprint.

Shape legend: N images of a data set, C channels, H x W pixels, D = C * H * W features.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apmctl_core.data import packed
from apmctl_core.data.dataset import Dataset, release
from apmctl_core.data.preprocessing import KINDS, Preprocessing, digest
from apmctl_core.data.source import KNOWN
from apmctl_core.errors import ArtifactError, ConfigError, StoreError
from apmctl_core.events import Emit, silent
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import sweep
from apmctl_core.storage.locks import hold

EPS = 0.1
MAX_MATRIX_BYTES = 1 << 30
_SAMPLE = 512  # images whose variance is measured
_NATURAL, _LEAST = 0.063, 1e-3  # variances: that of CIFAR-10, and where images are nearly the same
_CHUNK = 1024  # rows of a product: 1024 products of numbers in -128..127 add up exactly in float32 (2^24)


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

    S and U are the eigenvalues and eigenvectors of the covariance of the training images. Raises ConfigError if the
    matrix would exceed 1 GB.
    """
    c, h, w = images.shape[1:]
    check_size((c, h, w))
    mean, covariance = moments(images)
    values, vectors = np.linalg.eigh(covariance)  # half the time of torch's on a CPU
    root = np.sqrt(values.clip(min=0) + EPS)
    whitening = (vectors / root) @ vectors.T
    matrix = torch.from_numpy((0.5 * (whitening + whitening.T)).astype(np.float32))
    return Preprocessing("zca", {"mean": torch.from_numpy(mean).float(), "matrix": matrix})


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
                kept = packed.pack(fitted)
                io.write(path, kept, {"kind": kind, "digest": digest(kind, kept)})
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
        tensors, metadata = io.read(path, packed.layouts(io.read_header(path).tensors, dataset.shape))
        if digest("zca", tensors) == metadata.get("digest"):
            return packed.unpack(tensors)
    except (ArtifactError, StoreError):
        pass
    return None
