"""Tensors on disk, as safetensors, by our own reader and writer.

The library maps a file to read it, so that its pages count beside the tensors, accepts headers of up to 100 MB, and
cannot read in pieces. Ours checks a small header strictly before anything is allocated, and reads straight into the
tensors; headers need no torch, so that a run's progress can be read at once. Ours gives the same bytes for the same
tensors, atomically.

The layout: 8 bytes with the length n of the header, n bytes of JSON, then the tensors' bytes without a gap.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from apmctl_core.errors import ArtifactError, NumericsError
from apmctl_core.storage.files import DAMAGED_HINT, atomic, open_regular, require_sha256
from apmctl_core.storage.strict_json import parse_object

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_HEADER = 1 << 20  # parsed JSON takes a multiple of its text, so that has to be small
PIECE_BYTES = 8 << 20
_METADATA = "__metadata__"
# The format's names of dtypes, torch's, and the bytes of an item.
_DTYPES = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "I16": ("int16", 2), "F16": ("float16", 2),
    "BF16": ("bfloat16", 2), "I32": ("int32", 4), "F32": ("float32", 4), "I64": ("int64", 8), "F64": ("float64", 8),
}  # fmt: skip
_NAMES = {f"torch.{dtype}": name for name, (dtype, _) in _DTYPES.items()}

_Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
Dims = tuple["int | str", ...]  # a name like "M" stands for a size that must be the same wherever it appears


@dataclass(frozen=True)
class Layout:
    """The dtype (as safetensors names it, or a choice of several) and the shape of a tensor."""

    dtype: str | tuple[str, ...]
    shape: Dims


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


@dataclass(frozen=True)
class Header:
    """The tensors' dtypes and shapes, the metadata, and in `begins` the offset of each tensor's first byte.

    `length` is the offset of the first tensor's.
    """

    tensors: dict[str, Layout]
    metadata: dict[str, str]
    begins: dict[str, int] = field(default_factory=dict)
    length: int = 0


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    previous: Path | None = None,
) -> None:
    """Write tensors (any device) atomically; a file that was at `path` is kept at `previous` if that is given.

    Raises StoreError where the disk refuses, ValueError for a dtype that the format lacks.
    """
    # Wide items first: every tensor then begins at a multiple of its item's size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": dtype_name(tensor), "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ValueError(f"{len(header)} bytes of names and metadata are too many for one file")
    with atomic(path, previous) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            file.write(raw_bytes(tensors[name]))


def read(
    path: Path, expected: Mapping[str, Layout] | None = None, *, finite: bool = False, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU and independent of the file, and its metadata.

    `expected` gives names, dtypes and shapes; `finite` refuses NaN and infinities; `sha256` is that of the whole file,
    taken of the very bytes that are read. Raises ArtifactError, StoreError.
    """
    import torch

    header = read_header(path)
    if expected is not None:
        check_layout(header, expected, path)
    tensors = {
        name: torch.empty(list(map(int, header.tensors[name].shape)), dtype=_dtype(header.tensors[name]))
        for name in sorted(header.tensors, key=lambda n: header.begins[n])
    }
    with open_regular(path) as file:
        digest = hashlib.sha256(file.read(header.length))
        for tensor in tensors.values():  # in the order of the file, which has no gaps
            if file.readinto(raw_bytes(tensor)) != tensor.nbytes:
                raise _damaged(path, "it is shorter than its header says")
            if sha256 is not None:
                digest.update(raw_bytes(tensor))
    if sha256 is not None:
        require_sha256(path, sha256, digest.hexdigest())
    if finite:
        check_finite(tensors, str(path))
    return tensors, header.metadata


def pieces(path: Path, name: str, rows: int = 0) -> Iterator[Tensor]:
    """One tensor of a file in pieces along its first dimension, for tensors larger than memory.

    Each piece has `rows` rows, or as many as fit into 8 MB. Raises ArtifactError for a file that is damaged or lacks
    the tensor.
    """
    import torch

    header = read_header(path)
    if name not in header.tensors:
        raise ArtifactError(f"{path} lacks the tensor {name!r}", DAMAGED_HINT)
    layout = header.tensors[name]
    dtype, (count, *rest) = _dtype(layout), map(int, layout.shape)
    row = math.prod(rest) * dtype.itemsize
    step = rows or max(1, PIECE_BYTES // max(row, 1))
    with open_regular(path) as file:
        file.seek(header.begins[name])
        for begin in range(0, count, step):
            piece = torch.empty([min(step, count - begin), *rest], dtype=dtype)
            if file.readinto(raw_bytes(piece)) != piece.nbytes:
                raise _damaged(path, "it is shorter than its header says")
            yield piece


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise ArtifactError where a tensor holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        # In pieces, since the check allocates as much as it is given.
        pieces = tensor.reshape(-1).split(PIECE_BYTES // tensor.element_size())
        if tensor.is_floating_point() and not all(bool(piece.isfinite().all()) for piece in pieces):
            raise ArtifactError(f"{what}: {name!r} holds numbers that are not finite", DAMAGED_HINT)


def require_finite(tensors: Mapping[str, Tensor], what: str, hint: str = "nothing is written") -> None:
    """Raise NumericsError where a tensor that is to be written holds a NaN or an infinity."""
    try:
        check_finite(tensors, what)
    except ArtifactError as e:
        raise NumericsError(e.message, hint) from e


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in the order of its elements."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]  # an ndarray is a buffer


def dtype_name(tensor: Tensor) -> str:
    """The name that safetensors has for a tensor's dtype. Raises ValueError where it has none."""
    if str(tensor.dtype) not in _NAMES:
        raise ValueError(f"tensors of {tensor.dtype} cannot be stored")
    return _NAMES[str(tensor.dtype)]


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
    metadata = values.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    entries = {name: _entry(value, name, path) for name, value in values.items()}
    position = 0
    for begin, end in sorted(entry.data_offsets for entry in entries.values()):
        if begin != position:
            raise _damaged(path, "its tensors overlap or leave a gap")
        position = end
    if position != size - 8 - length:
        raise _damaged(path, "it is not as long as its header says")
    tensors = {name: Layout(entry.dtype, entry.shape) for name, entry in entries.items()}
    begins = {name: 8 + length + entry.data_offsets[0] for name, entry in entries.items()}
    return Header(tensors, metadata, begins, 8 + length)


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


def _dtype(layout: Layout) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[str(layout.dtype)][0])
    return dtype


def _entry(value: Any, name: str, path: Path) -> _Entry:
    try:
        entry = msgspec.convert(value, _Entry)
        size = _DTYPES[entry.dtype][1]
    except (msgspec.ValidationError, KeyError) as e:
        raise _damaged(path, f"the entry of {name[:100]!r} is not dtype, shape and offsets") from e
    begin, end = entry.data_offsets
    if math.prod(entry.shape) * size != end - begin:
        raise _damaged(path, f"the offsets of {name[:100]!r} do not fit its shape")
    return entry


def _fits(shape: Dims, want: Dims, sizes: dict[str, int]) -> bool:
    return len(shape) == len(want) and all(
        n and n == (sizes.setdefault(w, int(n)) if isinstance(w, str) else w) for n, w in zip(shape, want, strict=True)
    )
