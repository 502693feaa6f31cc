"""Examples as the networks want them: batches by index, whole or in segments. Shapes: N examples, B in a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from apmctl_core.data import Split, release
from apmctl_core.data.preprocessing import Preprocessing

_RESIDENT = 128 << 20  # bytes of a memory map that may stay resident
_AROUND = 64 << 10  # bytes that the system maps around each row that is read


class Source(Protocol):
    """Examples by index: float images (B, C, H, W) on the device, and their targets."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class TensorSource:
    """Examples that lie on the device already: synthetic images, or a few real ones."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.images.device)
        return self.images[index], self.targets[index]


class RealSource:
    """Real images from a memory-mapped uint8 split, brought into the networks' space a batch at a time."""

    def __init__(self, split: Split, preprocessing: Preprocessing, device: torch.device, precision: str) -> None:
        self._split = split
        self._device = device
        self._preprocessing = preprocessing.to(device)
        # Whitening is a product with a (D, D) matrix, as dear as a small network. Where the first convolution
        # rounds to bf16 anyway the product runs in bf16 too: bytes are exact in it, the matrix is rounded once.
        self._whiten = _bf16_whitener(preprocessing, device) if precision == "bf16" else None
        self._mapped = 0

    def __len__(self) -> int:
        return len(self._split.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = index.numpy()
        images = torch.from_numpy(self._split.images[rows]).to(self._device, non_blocking=True)
        labels = torch.from_numpy(self._split.labels[rows]).to(self._device, non_blocking=True)
        self._let_go(len(rows))
        return self.prepare(images), labels

    def _let_go(self, rows: int) -> None:
        """Give the pages that were read back now and then; the system keeps them cached while it has room."""
        self._mapped += rows * (math.prod(self._split.images.shape[1:]) + _AROUND)
        if self._mapped >= _RESIDENT:
            release(self._split.images)
            self._mapped = 0

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 images (B, C, H, W) in the space that networks train in, float32."""
        if self._whiten is None:
            return self._preprocessing.forward(images)
        matrix, offset = self._whiten
        white = images.flatten(1).to(torch.bfloat16) @ matrix
        return (white.float() - offset).view(images.shape)


def _bf16_whitener(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if preprocessing.kind != "zca":
        return None
    matrix = (preprocessing.tensors["matrix"] / 255).to(device, torch.bfloat16)
    mean = preprocessing.tensors["mean"].to(device).float().flatten() * 255
    return matrix, mean @ matrix.float()


def segment_length(count: int, limit: int) -> int:
    """The length of nearly equal segments of at most `limit` (0: no limit) that cover `count` examples."""
    if not limit or limit >= count:
        return count
    return -(-count // -(-count // limit))


def segments(count: int, size: int, *, pad: bool) -> Iterator[tuple[slice, int]]:
    """Cut `count` examples into segments of `size`; with each comes the length to pad it to, if compiled code wants."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield slice(start, stop), size if pad else stop - start


def padded(x: Tensor, length: int, *, zero: bool = False) -> Tensor:
    """`x` with its first row (or zeros) repeated up to `length` rows."""
    missing = length - len(x)
    if missing <= 0:
        return x
    row = torch.zeros_like(x[:1]) if zero else x[:1]
    return torch.cat([x, row.expand(missing, *x.shape[1:])])
