"""Which column of a table has the images and which the labels, and how they become payloads and integers."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def _pick(what: str, choices: Sequence[Sequence[str]], among: Sequence[str], schema: pa.Schema) -> str:
    """The one column of the first of `choices` that names any."""
    for choice in choices:
        names = [name for name in choice if name in among]
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
    known = ([spec.image_column], [spec.label_column]) if spec is not None else ([], [])
    image = _pick("image", [known[0], _IMAGE, images], images, schema)
    label = _pick("label", [known[1], _LABEL, class_labels], schema.names, schema)
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
    """The labels of each file or split as int64 (N,), a missing one as -1, and the class names that they index.

    Text becomes the index of its sorted distinct values. Raises DataError if the columns have neither integers nor
    text, or some the one and some the other.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in columns]
    is_text = [pa.types.is_string(c.type) or pa.types.is_large_string(c.type) for c in columns]
    if any(is_text) and not all(is_text):
        types = ", ".join(sorted({str(c.type) for c in columns}))
        raise DataError(f"the label column has different types in different files: {types}", "make them the same")
    if all(is_text):
        texts = [c.cast(pa.large_string()) for c in columns]
        names = tuple(sorted({v for c in texts for v in pc.unique(c).to_pylist() if v is not None}))
        columns = [pc.index_in(c, value_set=pa.array(names, pa.large_string())) for c in texts]
    elif any(not (pa.types.is_integer(c.type) or pa.types.is_boolean(c.type)) for c in columns):
        raise DataError(
            f"the label column '{name}' has values of type {columns[0].type}", "labels are whole numbers or text"
        )
    try:
        return [np.asarray(c.cast(pa.int64()).fill_null(-1)) for c in columns], names
    except pa.ArrowInvalid as error:
        raise DataError(f"the label column '{name}' has numbers beyond 64 bits", "number the classes from 0") from error
