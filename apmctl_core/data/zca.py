"""ZCA whitening: the covariance of a data set in exact arithmetic, and the matrices made of it.

Shape legend: N images, D = C * H * W features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apmctl_core.data.dataset import release
from apmctl_core.errors import ConfigError

EPS = 0.1
MAX_MATRIX_BYTES = 1 << 30
_CHUNK = 1024  # rows of a product: 1024 products of numbers in -128..127 add up exactly in float32 (2^24)


@dataclass(frozen=True, eq=False)
class Whitening:
    """`mean` (D,), `matrix` and `inverse` (D, D), float32, both symmetric."""

    mean: np.ndarray
    matrix: np.ndarray
    inverse: np.ndarray


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


def fit_zca(images: np.ndarray) -> Whitening:
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
    matrix, inverse = ((0.5 * (m + m.T)).astype(np.float32) for m in both)
    return Whitening(mean.astype(np.float32), matrix, inverse)
