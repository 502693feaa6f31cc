from __future__ import annotations

import json
import os
import stat
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from apmctl_core.errors import ArtifactError, NumericsError, StoreError
from apmctl_core.storage import tensors as io
from apmctl_core.storage.tensors import Layout, check_layout, read_header

TENSORS = {
    "b": torch.arange(6, dtype=torch.int64).reshape(2, 3),
    "a": torch.linspace(0, 1, 5),
    "half": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "flag": torch.tensor([True, False, True]),
    "scalar": torch.tensor(3.0),
    "none": torch.empty(0, 4),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "signed": torch.tensor([-1, 127], dtype=torch.int8),
    "short": torch.tensor([-300, 300], dtype=torch.int16),
    "word": torch.tensor([-70_000, 70_000], dtype=torch.int32),
    "float16": torch.tensor([0.5, -2], dtype=torch.float16),
    "double": torch.tensor([0.1, -2], dtype=torch.float64),
}


def raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def test_roundtrip_of_every_dtype(path: Path) -> None:
    io.write(path, TENSORS, {"note": "x"})
    found, metadata = io.read(path)
    assert metadata == {"note": "x"}
    assert sorted(found) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_library_reads_what_we_write(path: Path) -> None:
    io.write(path, TENSORS)
    assert all(torch.equal(value, TENSORS[name]) for name, value in load_file(path).items())


def test_we_read_what_the_library_writes(path: Path) -> None:
    save_file(TENSORS, path, {"format": "pt"})
    assert all(torch.equal(value, TENSORS[name]) for name, value in io.read(path)[0].items())


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    io.write(tmp_path / "1", TENSORS, {"a": "1", "b": "2"})
    io.write(tmp_path / "2", dict(reversed(TENSORS.items())), {"b": "2", "a": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_views_are_written_by_their_elements(path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    io.write(path, {"t": whole.t(), "part": whole[:, 1:3], "grad": torch.ones(2, requires_grad=True)})
    found = io.read(path)[0]
    assert torch.equal(found["t"], whole.t())
    assert torch.equal(found["part"], whole[:, 1:3])


def test_the_mode_follows_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        io.write(path, {"a": torch.ones(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_is_read_does_not_change_with_the_file(path: Path) -> None:
    io.write(path, {"a": torch.zeros(1000)})
    found = io.read(path)[0]["a"]
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", 1.0))
    assert found[-1] == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    io.write(path, {"a": torch.zeros(1)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot be stored"):
        io.write(path, {"a": torch.zeros(1, dtype=torch.complex64)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        io.write(tmp_path / "no" / "x", {"a": torch.zeros(1)})


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1, "a": 2}',
        {"a": 5},
        {"a": {**ENTRY, "dtype": "F33"}},
        {"a": {**ENTRY, "dtype": ["F32"]}},
        {"a": {**ENTRY, "shape": [-2]}},
        {"a": {**ENTRY, "shape": [2.0]}},
        {"a": {**ENTRY, "shape": [True]}},
        {"a": {**ENTRY, "shape": [3]}},
        {"a": {**ENTRY, "shape": [1] * 9 + [2]}},
        {"a": {**ENTRY, "shape": [2**40, 2**40]}},
        {"a": {**ENTRY, "data_offsets": [0]}},
        {"a": {**ENTRY, "data_offsets": [8, 0]}},
        {"a": {**ENTRY, "data_offsets": [4, 12]}},
        {"a": {**ENTRY, "extra": 1}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": ENTRY, "b": ENTRY},
        {"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 16]}},
        {"a": ENTRY, "__metadata__": {"x": 1}},
        {"a": ENTRY, "__metadata__": []},
        {"a": {**ENTRY, "shape": [1], "data_offsets": [0, 4]}},
        {},
    ],
    ids=str,
)
def test_a_header_that_is_wrong_in_any_way_is_refused(path: Path, header: Any) -> None:
    raw(path, header, bytes(8))
    with pytest.raises(ArtifactError) as caught:
        io.read(path)
    assert caught.value.hint


def test_a_good_header_made_by_hand_is_taken(path: Path) -> None:
    assert io.read(raw(path, {"a": ENTRY}, bytes(8)))[0]["a"].tolist() == [0, 0]


@pytest.mark.parametrize(("begins", "whole"), [((8, 0), True), ((0, 12), False), ((0, 4), False), ((4, 12), False)])
def test_tensors_fill_a_file_without_gap_or_overlap(path: Path, begins: tuple[int, int], whole: bool) -> None:
    header = {name: {**ENTRY, "data_offsets": [at, at + 8]} for name, at in zip("ab", begins, strict=True)}
    raw(path, header, bytes(max(begins) + 8))
    if whole:
        assert sorted(io.read(path)[0]) == ["a", "b"]
        return
    with pytest.raises(ArtifactError, match="overlap or leave a gap"):
        io.read(path)


@pytest.mark.parametrize("length", [0, 3, 7, 2**20, 2**24 + 1, 2**40, 2**64 - 1])
def test_the_length_of_the_header_is_bounded(path: Path, length: int) -> None:
    raw(path, {"a": ENTRY}, bytes(8), length=length)
    with pytest.raises(ArtifactError):
        io.read(path)


def test_an_oversized_header_is_refused_without_reading_it(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 30))
        file.truncate(1 << 31)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="header is longer"):
        io.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100])
def test_a_truncated_file_is_refused(path: Path, size: int) -> None:
    io.write(path, TENSORS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ArtifactError):
        io.read(path)


def test_a_file_with_something_behind_it_is_refused(path: Path) -> None:
    io.write(path, TENSORS)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="not as long"):
        io.read(path)


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ({"a": Layout("F32", (5,))}, "unknown tensor 'b'"),
        ({"a": Layout("F32", (5,)), "b": Layout("F32", (5, 2)), "c": Layout("F32", (1,))}, "lacks the tensor 'c'"),
        ({"a": Layout("F64", (5,)), "b": Layout("F32", (5, 2))}, "'a' is F32"),
        ({"a": Layout("F32", (5, 1)), "b": Layout("F32", (5, 2))}, "'a' is F32"),
        ({"a": Layout("F32", ("M",)), "b": Layout("F32", ("M", "M"))}, "'b' is F32"),
    ],
)
def test_tensors_must_be_as_expected(path: Path, layout: dict[str, Layout], problem: str) -> None:
    io.write(path, {"a": torch.zeros(5), "b": torch.zeros(5, 2)})
    with pytest.raises(ArtifactError, match=problem):
        io.read(path, layout)


def test_texts_in_a_layout_stand_for_one_size_each(path: Path) -> None:
    io.write(path, {"a": torch.zeros(5), "b": torch.zeros(5, 2)})
    sizes = check_layout(read_header(path), {"a": Layout("F32", ("M",)), "b": Layout("F32", ("M", "K"))}, path)
    assert sizes == {"M": 5, "K": 2}


def test_an_empty_tensor_fits_no_layout(path: Path) -> None:
    io.write(path, {"a": torch.zeros(0)})
    with pytest.raises(ArtifactError):
        io.read(path, {"a": Layout("F32", ("M",))})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_where_asked(path: Path, bad: float) -> None:
    io.write(path, {"a": torch.tensor([1.0, bad]), "n": torch.tensor([1])})
    assert io.read(path)[0]["n"].tolist() == [1]
    with pytest.raises(ArtifactError, match="not finite"):
        io.read(path, finite=True)
    with pytest.raises(NumericsError, match="not finite"):
        io.require_finite({"a": torch.tensor(bad)}, "the set")


@pytest.mark.parametrize("name", ["rows", "none", "flat", "scalars", "wide"])
def test_a_tensor_is_read_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tensors = {
        "rows": torch.arange(35).reshape(7, 5),
        "none": torch.empty(0, 4),
        "flat": torch.empty(4, 0),
        "scalars": torch.arange(7, dtype=torch.uint8),
        "wide": torch.arange(6.0).reshape(2, 3),
    }
    io.write(path, tensors)
    monkeypatch.setattr(io, "PIECE_BYTES", 80)
    for rows, lengths in ((3, {"none": [], "flat": [3, 1], "wide": [2]}), (0, {"rows": [2, 2, 2, 1], "none": []})):
        pieces = list(io.pieces(path, name, rows))
        default = [3, 3, 1] if rows else [len(tensors[name])]
        assert [len(piece) for piece in pieces] == lengths.get(name, default)
        assert all(piece.dtype == tensors[name].dtype for piece in pieces)
        assert not pieces or torch.equal(torch.cat(pieces), tensors[name])
    monkeypatch.setattr(io, "PIECE_BYTES", 1)
    assert len(list(io.pieces(path, name))) == len(tensors[name])


def test_pieces_of_a_tensor_that_is_not_there_or_too_short_are_refused(path: Path) -> None:
    io.write(path, {"a": torch.zeros(100_000, 2)})
    with pytest.raises(ArtifactError, match="lacks the tensor 'b'"):
        next(io.pieces(path, "b"))
    pieces = io.pieces(path, "a", 2)
    next(pieces)
    os.truncate(path, path.stat().st_size - 1)  # as another process might
    with pytest.raises(ArtifactError, match="shorter than its header says"):
        list(pieces)


def test_every_tensor_begins_at_a_multiple_of_its_items(path: Path) -> None:
    io.write(path, TENSORS, {"x": "12345"})
    header = read_header(path)
    for name, begin in header.begins.items():
        assert begin % TENSORS[name].element_size() == 0
    assert list(header.tensors) == [
        *("b", "double", "a", "none", "scalar", "word", "float16", "half", "short", "bytes", "flag", "signed")
    ]


def test_names_and_metadata_have_a_bound(path: Path) -> None:
    with pytest.raises(ValueError, match="too many for one file"):
        io.write(path, {}, {"x": "y" * io.MAX_HEADER})
    io.write(path, {}, {"x": "y" * (io.MAX_HEADER - len('{"__metadata__":{"x":""}}') - 7)})
    assert path.stat().st_size == io.MAX_HEADER + 8
    assert len(io.read(path)[1]["x"]) == io.MAX_HEADER - 32


def test_a_large_tensor_is_checked_to_its_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "PIECE_BYTES", 16)
    bad = torch.zeros(3, 3)
    io.check_finite({"a": bad, "n": torch.arange(9)}, "x")
    bad[2, 2] = float("nan")
    with pytest.raises(ArtifactError, match="x: 'a' holds numbers that are not finite"):
        io.check_finite({"n": torch.arange(9), "a": bad}, "x")


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    io.write(tmp_path / "real", TENSORS)
    path.symlink_to(tmp_path / "real")
    with pytest.raises(ArtifactError, match="not an ordinary file"):
        io.read(path)
