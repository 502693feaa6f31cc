"""Tensors on disk, as safetensors, by our own reader and writer.

The library maps a file to read it, so that its pages count beside the tensors, and has no reading in pieces; ours reads
straight into the tensors, after the header is checked (see header.py). The library's bytes, modes and flushing are its
own affair; ours gives the same bytes for the same tensors, atomically.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from apmctl_core.errors import ArtifactError, NumericsError
from apmctl_core.storage.files import DAMAGED_HINT, atomic, open_regular
from apmctl_core.storage.header import ITEM_SIZES, MAX_HEADER, METADATA, Layout, check_layout, read_header

_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.int64: "I64",
    torch.float64: "F64",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
PIECE_BYTES = 8 << 20


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
    head = _header({name: tensors[name] for name in order}, metadata or {})
    with atomic(path, previous) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            file.write(raw_bytes(tensors[name]))


def read(
    path: Path, expected: Mapping[str, Layout] | None = None, *, finite: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU and independent of the file, and its metadata.

    `expected` gives names, dtypes and shapes; `finite` refuses NaN and infinities. Raises ArtifactError, StoreError.
    """
    header = read_header(path)
    if expected is not None:
        check_layout(header, expected, path)
    tensors = {}
    with open_regular(path) as file:
        for name, layout in header.tensors.items():
            tensors[name] = torch.empty(list(map(int, layout.shape)), dtype=_DTYPES[str(layout.dtype)])
            file.seek(header.begins[name])
            if file.readinto(raw_bytes(tensors[name])) != tensors[name].nbytes:
                raise ArtifactError(f"{path} is shorter than its header says", DAMAGED_HINT)
    if finite:
        check_finite(tensors, str(path))
    return tensors, header.metadata


def pieces(path: Path, name: str, rows: int = 0) -> Iterator[Tensor]:
    """One tensor of a file in pieces along its first dimension, for tensors larger than memory.

    Each piece has `rows` rows, or as many as fit into 8 MB. Raises ArtifactError for a file that is damaged or lacks
    the tensor.
    """
    header = read_header(path)
    if name not in header.tensors:
        raise ArtifactError(f"{path} lacks the tensor {name!r}", DAMAGED_HINT)
    layout = header.tensors[name]
    dtype, (count, *rest) = str(layout.dtype), map(int, layout.shape)
    row = math.prod(rest) * ITEM_SIZES[dtype]
    step = rows or max(1, PIECE_BYTES // max(row, 1))
    with open_regular(path) as file:
        file.seek(header.begins[name])
        for begin in range(0, count, step):
            size = min(step, count - begin)
            data = bytearray(file.read(size * row))
            if len(data) != size * row:
                raise ArtifactError(f"{path} is shorter than its header says", DAMAGED_HINT)
            yield torch.frombuffer(data, dtype=_DTYPES[dtype]).reshape(size, *rest)


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise ArtifactError where a tensor holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        # In pieces, since the check allocates as much as it is given.
        pieces = tensor.reshape(-1).split(PIECE_BYTES // tensor.element_size())
        if tensor.is_floating_point() and not all(bool(torch.isfinite(piece).all()) for piece in pieces):
            raise ArtifactError(f"{what}: {name!r} holds numbers that are not finite", DAMAGED_HINT)


def require_finite(tensors: Mapping[str, Tensor], what: str, hint: str = "nothing is written") -> None:
    """Raise NumericsError where a tensor that is to be written holds a NaN or an infinity."""
    try:
        check_finite(tensors, what)
    except ArtifactError as e:
        raise NumericsError(e.message, hint) from e


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in the order of its elements."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]  # an ndarray is a buffer


def dtype_name(tensor: Tensor) -> str:
    """The name that safetensors has for a tensor's dtype. Raises ValueError where it has none."""
    if tensor.dtype not in _NAMES:
        raise ValueError(f"tensors of {tensor.dtype} cannot be stored")
    return _NAMES[tensor.dtype]


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": dtype_name(tensor), "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"{len(text)} bytes of names and metadata are too many for one file")
    return text
