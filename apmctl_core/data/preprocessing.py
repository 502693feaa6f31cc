"""The space that networks train in: mean/std or ZCA, both ways.

Shape legend: B images of a batch, C channels, H x W pixels, D = C * H * W features.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from apmctl_core.errors import ArtifactError
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Dims

KINDS: dict[str, dict[str, Dims]] = {
    "standard": {"mean": ("C",), "std": ("C",)},
    "zca": {"mean": ("D",), "matrix": ("D", "D")},
}


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A transform of images with its inverse.

    `kind` is "standard", with `tensors` mean and std (C,), or "zca", with mean (D,) and a symmetric matrix (D, D); all
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
        """Bring images of `forward`'s space, (B, C, H, W), back to pixels, about [0, 1] and not clipped, float32.

        Raises ArtifactError for a matrix that has no inverse.
        """
        images = images.to(torch.float32)
        if self.kind == "standard":
            return images * self._channel("std") + self._channel("mean")
        return (_product(images.flatten(1), self._inverse) + self.tensors["mean"]).reshape(images.shape)

    @functools.cached_property
    def _inverse(self) -> Tensor:
        """ZCA's matrix to the power -1, (D, D), computed when it is first asked for: few do."""
        matrix = self.tensors["matrix"]
        factor, failed = torch.linalg.cholesky_ex(matrix.cpu().double())
        if failed:
            raise ArtifactError("the preprocessing's matrix is not that of a whitening", DAMAGED_HINT)
        return torch.cholesky_inverse(factor).to(matrix)

    def _channel(self, name: str) -> Tensor:
        return self.tensors[name].view(1, -1, 1, 1)

    def to(self, device: torch.device | str) -> Preprocessing:
        """The same transform with its tensors on `device`."""
        return Preprocessing(self.kind, {name: tensor.to(device) for name, tensor in self.tensors.items()})

    def digest(self) -> str:
        """sha256 (hex) over kind, names, shapes and content of the tensors."""
        return digest(self.kind, self.tensors)


def digest(kind: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over kind, names, shapes and content of tensors."""
    sha = hashlib.sha256(kind.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"\n{name} {list(tensor.shape)}\n".encode())
        sha.update(io.raw_bytes(tensor))
    return sha.hexdigest()


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return x @ matrix
