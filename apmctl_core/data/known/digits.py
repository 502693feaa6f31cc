"""The digits of scikit-learn: 1,797 images of 8x8, which need no network."""

from __future__ import annotations

import numpy as np

from apmctl_core.data.source import DatasetSpec, Rows, Source, in_batches, register
from apmctl_core.errors import DataError


def open_digits() -> Source:
    """Open the digits, their values 0..16 scaled to 0..255 and rounded. Raises DataError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the digits come with scikit-learn, which is not installed", "pip install scikit-learn"
        ) from error
    bunch = load_digits()
    images = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    labels = np.asarray(bunch.target, dtype=np.int64)
    rows = Rows(labels, in_batches(list(images)), lambda i: f"image {i} of digits")
    return Source(rows, (), tuple(str(n) for n in bunch.target_names), "scikit-learn")


register(DatasetSpec(name="digits", open=open_digits, shape=(1, 8, 8), num_classes=10, train=1438, test=359))
