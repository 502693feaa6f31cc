"""A preprocessing as files have it: of ZCA's matrix, which is symmetric, the upper triangle alone.

A file has the tensors of a preprocessing, with `triangle` for `matrix`: the rows of the upper triangle, each from the
diagonal on, one after the other. Files of 0.1.0 and before have the whole matrix and its inverse.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from apmctl_core.data.preprocessing import Preprocessing


def kind_of(names: Collection[str]) -> str:
    """The kind of the preprocessing in a file with tensors of these names."""
    return "standard" if "std" in names else "zca"


def layouts(names: Collection[str], shape: tuple[int, int, int]) -> dict[str, Layout]:
    """Names, dtypes and shapes of the tensors that a file for images (C, H, W) must have, given the names it has."""
    c, d = shape[0], math.prod(shape)
    if kind_of(names) == "standard":
        sizes: dict[str, tuple[int, ...]] = {"mean": (c,), "std": (c,)}
    elif "matrix" in names:  # an earlier version's
        sizes = {"mean": (d,), "matrix": (d, d), "inverse": (d, d)}
    else:
        sizes = {"mean": (d,), "triangle": (d * (d + 1) // 2,)}
    return {name: Layout("F32", size) for name, size in sizes.items()}


def bytes_of(kind: str, shape: tuple[int, int, int]) -> int:
    """Bytes of the file of a preprocessing, its header aside."""
    names = ("std",) if kind == "standard" else ("triangle",)
    return sum(4 * math.prod(map(int, layout.shape)) for layout in layouts(names, shape).values())


def pack(preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The tensors for a file, on the CPU."""
    import torch

    tensors = {name: tensor.cpu() for name, tensor in preprocessing.tensors.items()}
    if "matrix" in tensors:
        matrix = tensors.pop("matrix")
        tensors["triangle"] = torch.cat([matrix[i, i:] for i in range(len(matrix))])
    return tensors


def unpack(tensors: Mapping[str, Tensor]) -> Preprocessing:
    """The preprocessing of a file's tensors. Raises ArtifactError for a matrix that is not symmetric."""
    from apmctl_core.data.preprocessing import Preprocessing

    kind = kind_of(tensors)
    if kind == "standard":
        return Preprocessing(kind, tensors)
    matrix = _symmetric(tensors["triangle"], len(tensors["mean"])) if "triangle" in tensors else tensors["matrix"]
    if not matrix.equal(matrix.T):
        raise ArtifactError("the whitening matrix is not symmetric", DAMAGED_HINT)
    return Preprocessing(kind, {"mean": tensors["mean"], "matrix": matrix})


def _symmetric(triangle: Tensor, side: int) -> Tensor:
    """The matrix (side, side) of its upper triangle; row by row, since an index of all its places is larger than it."""
    matrix, begin = triangle.new_empty(side, side), 0
    for i in range(side):
        end = begin + side - i
        matrix[i, i:] = matrix[i:, i] = triangle[begin:end]
        begin = end
    return matrix
