"""Tiny data sets written to disk: folders of images in all colour modes, parquet with and without metadata."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from apmctl_core.events import Event, Note, Progress


def pixels(seed: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> np.ndarray:
    """Random pixels (H, W, C), or (H, W) for one channel."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def image(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    """A random image in any mode."""
    if mode in ("L", "1"):
        return Image.fromarray(pixels(seed, size, 1)).convert(mode)
    return Image.fromarray(pixels(seed, size)).convert(mode)


def encoded(img: Image.Image, form: str = "PNG") -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    img.save(buffer, form)
    return buffer.getvalue()


def folder(root: Path, counts: Mapping[str, int], mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Path:
    """Class folders with so many PNG images each."""
    seed = len(str(root))
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            seed += 1
            image(seed, mode, size).save(root / name / f"{i:03}.png")
    return root


def rows(count: int, classes: int = 2, mode: str = "RGB", start: int = 0) -> list[dict[str, Any]]:
    """Rows with an encoded image and an integer label, classes in turn."""
    return [
        {"image": {"bytes": encoded(image(start + i, mode)), "path": None}, "label": i % classes} for i in range(count)
    ]


def parquet(
    path: Path, items: Sequence[Mapping[str, Any]], features: Mapping[str, Any] | None = None, row_group: int = 7
) -> Path:
    """A parquet file of rows, with the metadata of `datasets` if features are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(items))
    if features is not None:
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    pq.write_table(table, path, row_group_size=row_group)
    return path


def label_feature(names: Sequence[str]) -> dict[str, Any]:
    """The metadata of an image column and of a label column with class names."""
    return {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}


class Log(list[Event]):
    """An `emit` that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def notes(self) -> str:
        return "\n".join(e.text for e in self if isinstance(e, Note))

    @property
    def progress(self) -> list[Progress]:
        return [e for e in self if isinstance(e, Progress)]
