"""Which column of a table has the images and which the labels, and how they become payloads and integers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apmctl_core.data.source import DatasetSpec, Payload
from apmctl_core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """The two columns, and the class names that the schema's metadata gives to integer labels."""

    image: str
    label: str
    names: tuple[str, ...] | None


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features that `datasets` writes into a schema's metadata; empty if there are none or they are damaged."""
    try:
        values = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return {str(k): v for k, v in values.items() if isinstance(v, dict)} if isinstance(values, dict) else {}


def _is_image(field: pa.Field, feature: dict[str, Any]) -> bool:
    import pyarrow as pa

    kind = field.type
    if pa.types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return "bytes" in names and feature.get("_type", "Image") == "Image"
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _pick(what: str, named: Sequence[str], typed: Sequence[str], schema: pa.Schema) -> str:
    """The one column by name, else the one by type."""
    for names in (named, typed):
        if len(names) == 1:
            return names[0]
        if names:
            raise DataError(
                f"the {what} column is ambiguous: {', '.join(names)}", f"keep only one, or name it '{what}'"
            )
    raise DataError(f"there is no {what} column among: {', '.join(schema.names[:20]) or '(none)'}", f"name it '{what}'")


def _names(feature: dict[str, Any]) -> tuple[str, ...] | None:
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    if isinstance(names, list) and names and all(isinstance(n, str) for n in names) and len(set(names)) == len(names):
        return tuple(names)
    return None


def detect(schema: pa.Schema, spec: DatasetSpec | None) -> Columns:
    """Find the columns of images and labels: those of a known set, those with the usual names, the only ones by type.

    Raises DataError naming the columns if there is none or more than one.
    """
    hf = _features(schema)
    images = [f.name for f in schema if _is_image(f, hf.get(f.name, {}))]
    class_labels = [name for name in schema.names if hf.get(name, {}).get("_type") == "ClassLabel"]
    if spec is not None and spec.image_column in images:
        image = spec.image_column
    else:
        image = _pick("image", [n for n in _IMAGE if n in images], images, schema)
    if spec is not None and spec.label_column in schema.names:
        label = spec.label_column
    else:
        label = _pick("label", [n for n in _LABEL if n in schema.names], class_labels, schema)
    return Columns(image, label, _names(hf.get(label, {})))


def payloads(column: pa.Array, folder: Path | None = None) -> list[Payload]:
    """The encoded images of a column: their bytes, or the file that stands for them below `folder`.

    A path is trusted only where `folder` is given, which is where it was downloaded to; without one, and without
    bytes, an image is empty and refused when it is decoded.
    """
    import pyarrow as pa

    if not pa.types.is_struct(column.type):
        return [value or b"" for value in column.to_pylist()]
    return [_payload(row or {}, folder) for row in column.to_pylist()]


def _payload(row: dict[str, Any], folder: Path | None) -> Payload:
    data, path = row.get("bytes"), row.get("path")
    if data is None and path and folder is not None and Path(path).resolve().is_relative_to(folder.resolve()):
        return Path(path)
    return data or b""


def label_values(
    columns: Sequence[pa.ChunkedArray], name: str, names: tuple[str, ...] | None
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """The labels of each split as int64 (N,), a missing one as -1, and the class names that they index.

    Text becomes the index of its sorted distinct values. Raises DataError if the column has neither integers nor text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in columns]
    if any(pa.types.is_string(c.type) or pa.types.is_large_string(c.type) for c in columns):
        texts = [c.cast(pa.large_string()) for c in columns]
        names = tuple(sorted({v for c in texts for v in pc.unique(c).to_pylist() if v is not None}))
        value_set = pa.array(names, pa.large_string())
        columns = [pc.index_in(c, value_set=value_set) for c in texts]
    elif any(not (pa.types.is_integer(c.type) or pa.types.is_boolean(c.type)) for c in columns):
        raise DataError(
            f"the label column '{name}' has values of type {columns[0].type}", "labels are whole numbers or text"
        )
    try:
        arrays = [c.cast(pa.int64()).fill_null(-1).to_numpy() for c in columns]
    except pa.ArrowInvalid as error:
        raise DataError(f"the label column '{name}' has numbers beyond 64 bits", "number the classes from 0") from error
    return [np.asarray(array).astype(np.int64) for array in arrays], names


def concat(chunks: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    """One column of the parts that several files or batches have of it."""
    import pyarrow as pa

    arrays = [chunk for column in chunks for chunk in column.chunks]
    if len({a.type for a in arrays}) > 1:
        types = ", ".join(sorted({str(a.type) for a in arrays}))
        raise DataError(f"the label column has different types in different files: {types}", "make them the same")
    return pa.chunked_array(arrays) if arrays else pa.chunked_array([], pa.int64())
