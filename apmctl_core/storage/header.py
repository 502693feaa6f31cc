"""The header of a safetensors file, checked against the file's size and an expectation before anything is allocated.

The library checks a header while it maps the whole file, accepts up to 100 MB of it, and needs torch or numpy. Ours
bounds it to 1 MB, checks it strictly, and needs neither, so that a run's progress can be read at once.

The layout: 8 bytes with the length n of the header, n bytes of JSON, then the tensors' bytes without a gap.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT, open_regular
from apmctl_core.storage.strict_json import parse_object

MAX_HEADER = 1 << 20  # parsed JSON takes a multiple of its text, so that has to be small
METADATA = "__metadata__"
ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8,
}  # fmt: skip

Dims = tuple["int | str", ...]  # a name like "M" stands for a size that must be the same wherever it appears


@dataclass(frozen=True)
class Layout:
    """The dtype (as safetensors names it, or a choice of several) and the shape of a tensor."""

    dtype: str | tuple[str, ...]
    shape: Dims


@dataclass(frozen=True)
class Header:
    """The tensors' dtypes and shapes, the metadata, and in `begins` the offset of each tensor's first byte."""

    tensors: dict[str, Layout]
    metadata: dict[str, str]
    begins: dict[str, int] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """The header of a safetensors file, consistent with the file's size.

    Raises ArtifactError where anything in it is wrong, StoreError where it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise _damaged(path, "its header is longer than the file or than is allowed")
        text = file.read(length)
    values = parse_object(text, f"the header of {path}")
    metadata = values.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    tensors = {name: _layout(entry, name, path) for name, entry in values.items()}
    _check_offsets(values, size - 8 - length, path)
    begins = {name: 8 + length + entry["data_offsets"][0] for name, entry in values.items()}
    return Header(tensors, metadata, begins)


def check_layout(header: Header, expected: Mapping[str, Layout], path: Path) -> dict[str, int]:
    """The sizes that names in `expected` stand for, e.g. {"M": 10}, if the header is as expected.

    Raises ArtifactError for tensors that are missing or too many, and for other dtypes or shapes.
    """
    if sorted(header.tensors) != sorted(expected):
        name = sorted(set(header.tensors) ^ set(expected))[0]
        problem = "has an unknown" if name in header.tensors else "lacks the"
        raise ArtifactError(f"{path} {problem} tensor {name[:100]!r}", DAMAGED_HINT)
    sizes: dict[str, int] = {}
    for name, want in expected.items():
        layout = header.tensors[name]
        dtypes = (want.dtype,) if isinstance(want.dtype, str) else want.dtype
        if layout.dtype not in dtypes or not _fits(layout.shape, want.shape, sizes):
            raise ArtifactError(
                f"{path}: {name!r} is {layout.dtype} {list(layout.shape)}, not {'/'.join(dtypes)} {list(want.shape)}",
                DAMAGED_HINT,
            )
    return sizes


def _damaged(path: Path, problem: str) -> ArtifactError:
    return ArtifactError(f"{path} is damaged: {problem}", DAMAGED_HINT)


def _are_sizes(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _layout(entry: Any, name: str, path: Path) -> Layout:
    ok = (
        isinstance(entry, dict)
        and sorted(entry) == ["data_offsets", "dtype", "shape"]
        and isinstance(entry["dtype"], str)
        and entry["dtype"] in ITEM_SIZES
        and _are_sizes(entry["shape"], 8)
        and _are_sizes(entry["data_offsets"], 2)
        and len(entry["data_offsets"]) == 2
    )
    if not ok:
        raise _damaged(path, f"the entry of {name[:100]!r} is not dtype, shape and offsets")
    begin, end = entry["data_offsets"]
    if math.prod(entry["shape"]) * ITEM_SIZES[entry["dtype"]] != end - begin:
        raise _damaged(path, f"the offsets of {name[:100]!r} do not fit its shape")
    return Layout(entry["dtype"], tuple(entry["shape"]))


def _check_offsets(values: dict[str, Any], total: int, path: Path) -> None:
    position = 0
    for begin, end in sorted(entry["data_offsets"] for entry in values.values()):
        if begin != position:
            raise _damaged(path, "its tensors overlap or leave a gap")
        position = end
    if position != total:
        raise _damaged(path, "it is not as long as its header says")


def _fits(shape: Dims, want: Dims, sizes: dict[str, int]) -> bool:
    if len(shape) != len(want):
        return False
    for n, w in zip(shape, want, strict=True):
        assert isinstance(n, int)
        size = sizes.setdefault(w, n) if isinstance(w, str) else w
        if n != size or n == 0:
            return False
    return True
