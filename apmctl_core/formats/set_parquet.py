"""A set as parquet: pictures, labels and logits, for the Hub's viewer and for `datasets.load_dataset`.

Images are PNG in pixel space, for people to look at; networks train on `set.safetensors`. Written piece by piece:
memory does not grow with the set. The same set gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.sets import FILE, check_structure
from apmctl_core.artifacts.kinds.spaces import load_preprocessing
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.formats.preview import encode_png
from apmctl_core.storage import tensors
from apmctl_core.storage.files import disk_errors

FOLDER = "data"
_SHARD_BYTES = 400 << 20  # of pixels
_GROUP_BYTES = 8 << 20
_CHANNELS = (1, 3, 4)  # of a picture: grey, RGB, RGBA


def shard_names(artifact: Artifact, count: int) -> list[str]:
    """The names of a set's parquet files in the repository."""
    shards = max(1, math.ceil(count * math.prod(artifact.manifest.shape) / _SHARD_BYTES))
    return [f"{FOLDER}/train-{i:05d}-of-{shards:05d}.parquet" for i in range(shards)]


def is_shard(path: str) -> bool:
    """Whether a file of a repository is one that `write` may have written."""
    return path.startswith(f"{FOLDER}/train-") and path.endswith(".parquet")


def write(artifact: Artifact, folder: Path) -> list[str]:
    """Write a set's parquet files into a folder, and return their names, which are those in the repository.

    Raises ArtifactError where the set is damaged, StoreError where the disk refuses.
    """
    import pyarrow.parquet as pq

    count = check_structure(artifact)
    names = shard_names(artifact, count)
    batches = _batches(artifact)
    rows = math.ceil(count / len(names))
    written = 0
    for number, name in enumerate(names):
        path = folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(path, _schema(artifact), compression="zstd") as writer:
                while written < min(count, rows * (number + 1)):
                    batch = next(batches)
                    writer.write_batch(batch)
                    written += batch.num_rows
    return names


def pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Images of the set's space, (B, C, H, W), as uint8 pixels (B, C', H, W); C' is C, or 1 if no picture has C."""
    values = preprocessing.inverse(images).clamp(0, 1)
    if values.shape[1] not in _CHANNELS:
        values = values.mean(1, keepdim=True)
    return (values * 255).round().to(torch.uint8)


def _batches(artifact: Artifact) -> Iterator[Any]:
    import pyarrow as pa

    path, manifest = artifact.file(FILE), artifact.manifest
    preprocessing = load_preprocessing(artifact)
    rows = max(1, min(1000, _GROUP_BYTES // (4 * math.prod(manifest.shape))))
    schema = _schema(artifact)
    columns = [tensors.pieces(path, name, rows) for name in ("images", "labels", "logits")]
    for images, labels, logits in zip(*columns, strict=True):
        pictures = [{"bytes": _png(image), "path": None} for image in pixels(images, preprocessing)]
        flat = pa.array(logits.reshape(-1).numpy())
        values = [
            pa.array(pictures, schema.field("image").type),
            pa.array(labels.numpy()),
            pa.FixedSizeListArray.from_arrays(flat, logits.shape[1]).cast(schema.field("logits").type),
        ]
        yield pa.RecordBatch.from_arrays(values, schema=schema)


def _png(image: Tensor) -> bytes:
    from PIL import Image

    array = image[0] if len(image) == 1 else image.permute(1, 2, 0).contiguous()
    return encode_png(Image.fromarray(array.numpy()))


def _schema(artifact: Artifact) -> Any:
    """Columns with the metadata by which `datasets` knows pictures and class names; any version of it reads this."""
    import pyarrow as pa

    classes = list(artifact.manifest.classes)
    number = {"_type": "Value", "dtype": "int64"}
    label = {"names": classes, "_type": "ClassLabel"} if len(set(classes)) == len(classes) else number
    logit = {"_type": "Value", "dtype": "float32"}
    logits = {"feature": logit, "length": len(classes), "_type": "Sequence"}
    features = {"image": {"_type": "Image"}, "label": label, "logits": logits}
    fields = [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("label", pa.int64()),
        pa.field("logits", pa.list_(pa.float32(), len(classes))),
    ]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
