"""Examples as the networks want them: batches by index. Shapes: N examples, B in a batch."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from apmctl_core.data import Dataset, Split, release, stratified_sample
from apmctl_core.data.preprocessing import Preprocessing

_RESIDENT = 128 << 20  # bytes of a memory map that may stay resident
# Rows that are read before their pages are given back. The system maps what lies around a row with it: 64 KB, or a
# file that was just written by pieces of 2 MB, of which a row may touch two.
_ROWS = 32


Examples = tuple[Tensor, Tensor]  # float images (B, C, H, W) on the device, and their targets


class Source(Protocol):
    """Examples by index, one batch at a time or one after the other."""

    @property
    def shape(self) -> torch.Size: ...  # (C, H, W) of an image

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Examples: ...

    def batches(self, parts: Iterable[Tensor]) -> Generator[Examples, None, None]: ...


@dataclass(frozen=True)
class TensorSource:
    """Examples that lie on the device already: synthetic images, or a few real ones."""

    images: Tensor
    targets: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Examples:
        index = index.to(self.images.device)
        return self.images.index_select(0, index), self.targets.index_select(0, index)

    def batches(self, parts: Iterable[Tensor]) -> Generator[Examples, None, None]:
        """The batches of `parts` in their order."""
        yield from map(self.batch, parts)


class RealSource:
    """Real images from a memory-mapped uint8 split, brought into the networks' space a batch at a time."""

    def __init__(self, split: Split, preprocessing: Preprocessing, device: torch.device, precision: str) -> None:
        self._split = split
        self._device = device
        self._preprocessing = preprocessing.to(device)
        # Whitening is a product with a (D, D) matrix, as dear as a small network. Where the first convolution
        # rounds to bf16 anyway the product runs in bf16 too: bytes are exact in it, the matrix is rounded once.
        self._whiten = _bf16_whitener(preprocessing, device) if precision == "bf16" else None
        self._large = split.images.nbytes > _RESIDENT

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self._split.images.shape[1:])

    def __len__(self) -> int:
        return len(self._split.labels)

    def batch(self, index: Tensor) -> Examples:
        return self._on_device(*self._read(index))

    def batches(self, parts: Iterable[Tensor]) -> Generator[Examples, None, None]:
        """The batches of `parts` in their order; where reading takes time, the next is read while one is used."""
        if self._device.type == "cpu" and not self._large:
            yield from map(self.batch, parts)
            return
        with ThreadPoolExecutor(1, "reader") as reader:
            reading = (reader.submit(self._read, part) for part in parts)
            ready = next(reading, None)
            while ready is not None:
                ahead = next(reading, None)
                yield self._on_device(*ready.result())
                ready = ahead

    def _read(self, index: Tensor) -> Examples:
        images = torch.cat([self._rows(part) for part in index.split(_ROWS)])
        labels = torch.from_numpy(self._split.labels[index.numpy()])
        if self._device.type == "cuda":  # only from pinned memory does a copy run beside the arithmetic
            images, labels = images.pin_memory(), labels.pin_memory()
        return images, labels

    def _rows(self, index: Tensor) -> Tensor:
        rows = torch.from_numpy(self._split.images[index.numpy()])
        if self._large:  # the system keeps the pages cached while it has room
            release(self._split.images)
        return rows

    def _on_device(self, images: Tensor, labels: Tensor) -> Examples:
        images = images.to(self._device, non_blocking=True)
        return self.prepare(images), labels.to(self._device, non_blocking=True)

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 images (B, C, H, W) in the space that networks train in, float32."""
        if self._whiten is None:
            return self._preprocessing.forward(images)
        matrix, offset = self._whiten
        white = images.flatten(1).to(torch.bfloat16) @ matrix
        return (white.float() - offset).view(images.shape)


def exact_images(split: Split, preprocessing: Preprocessing, index: Tensor) -> Examples:
    """Real images (n, C, H, W) by index, float32 on the CPU, and their labels; whitened exactly, for values to keep."""
    source = RealSource(split, preprocessing, torch.device("cpu"), "fp32")
    images, labels = zip(*map(source.batch, index.split(1000)), strict=True)
    return torch.cat(images), torch.cat(labels)


def random_real_images(dataset: Dataset, ipc: int, preprocessing: Preprocessing, rng: torch.Generator) -> Tensor:
    """Random training images, `ipc` a class, those of class 0 first (K * ipc, C, H, W).

    Raises DataError where a class has fewer.
    """
    index = torch.from_numpy(stratified_sample(dataset.train.labels, ipc, rng, dataset.classes))
    return exact_images(dataset.train, preprocessing, index)[0]


def _bf16_whitener(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if preprocessing.kind != "zca":
        return None
    matrix = (preprocessing.tensors["matrix"] / 255).to(device, torch.bfloat16)
    mean = preprocessing.tensors["mean"].to(device).float().flatten() * 255
    return matrix, mean @ matrix.float()
