"""The space that networks train in: mean/std or ZCA, both ways, fitted once per data set.

Shape legend: B images, C channels, H x W pixels, D = C * H * W.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from apmctl_core.data.cache import storing, sweep
from apmctl_core.data.dataset import Dataset, release
from apmctl_core.data.zca import fit_zca
from apmctl_core.errors import ArtifactError, ConfigError

KINDS: Final = {"standard": ("mean", "std"), "zca": ("inverse", "matrix", "mean")}
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# The constants of the published runs, whatever part of the set is at hand.
_CONSTANTS: Final = {"cifar10": _CIFAR, "cifar100": _CIFAR, "tiny-imagenet": _IMAGENET, "imagenet-1k": _IMAGENET}


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A transform of images with its inverse.

    `kind` is "standard", with `tensors` mean and std (C,), or "zca", with mean (D,), matrix and inverse (D, D); all
    float32. Raises ArtifactError if these are not the tensors of that kind.
    """

    kind: str
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.kind not in KINDS or tuple(sorted(self.tensors)) != KINDS[self.kind]:
            raise ArtifactError(
                f"preprocessing '{self.kind}' with tensors {', '.join(sorted(self.tensors))} is unknown"
            )
        n = self.tensors["mean"].shape[0] if self.tensors["mean"].ndim == 1 else -1
        for name, tensor in self.tensors.items():
            shape = (n, n) if name in ("matrix", "inverse") else (n,)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
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
            sha.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8).data)
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


def _compute(dataset: Dataset, kind: str) -> Preprocessing:
    if kind == "zca":
        zca = fit_zca(dataset.train.images)
        arrays = {"mean": zca.mean, "matrix": zca.matrix, "inverse": zca.inverse}
        return Preprocessing(kind, {name: torch.from_numpy(array) for name, array in arrays.items()})
    if dataset.name in _CONSTANTS and dataset.shape[0] == 3:
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in _CONSTANTS[dataset.name])
    else:
        mean, std = _measure(dataset.train.images)
    return Preprocessing(kind, {"mean": mean, "std": std})


def _read(path: Path, kind: str) -> Preprocessing | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stored = Preprocessing(kind, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            recorded = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError, ArtifactError, KeyError, ValueError):
        return None
    return stored if stored.digest() == recorded else None


def _write(path: Path, fitted: Preprocessing) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # The lock is held, so nobody else uses this name; `sweep` removes it where a process was killed here.
    temporary = path.with_name(f".{path.stem}.tmp")
    with storing(path):
        try:
            save_file(dict(fitted.tensors), temporary, {"kind": fitted.kind, "digest": fitted.digest()})
            temporary.chmod(0o644)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except SafetensorError as error:  # how the library tells of a full disk
            raise OSError(str(error)) from error
        finally:
            temporary.unlink(missing_ok=True)


def fit(dataset: Dataset, kind: str, cache: Path) -> Preprocessing:
    """The preprocessing of a data set, "standard" or "zca", fitted on its training images; ZCA once per fingerprint.

    standard: the usual constants for the CIFAR and ImageNet sets that are known by name, measured for all others.
    zca: see `zca.fit_zca`; kept in `cache`, checked by its digest when it is read. Raises ConfigError for another kind
    or a ZCA beyond 1 GB, StoreError if the cache cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"--preprocessing cannot be '{kind}'", f"choose one of: {', '.join(KINDS)}")
    if kind == "standard":  # quicker to measure than to check
        return _compute(dataset, kind)
    path = cache / "preprocessing" / f"{kind}-{dataset.fingerprint}.safetensors"
    found = _stored(path, kind, dataset)
    if found is None:
        with _locked(path):
            found = _stored(path, kind, dataset)  # by whoever held the lock
            if found is None:
                sweep(path.parent, path.stem)
                found = _compute(dataset, kind)
                _write(path, found)
    return found


def _stored(path: Path, kind: str, dataset: Dataset) -> Preprocessing | None:
    found = _read(path, kind)
    fits = found is not None and found.tensors["mean"].shape[0] == int(np.prod(dataset.shape))
    return found if fits else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time for a fit, so that the covariance of a large set is not taken by several at once."""
    from filelock import FileLock

    with storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.stem}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
