"""Distilled sets on disk: images, logits, labels and stages; the preprocessing; the random baseline beside them.

Shape legend: M images in a set, C channels, H x W pixels, K classes, D draws of a random baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, register
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.artifacts.kinds.spaces import check_preprocessing, load_preprocessing, save_preprocessing
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT, open_regular
from apmctl_core.storage.tensors import Layout, check_layout, read_header

if TYPE_CHECKING:
    from torch import Tensor

    from apmctl_core.values import DistilledSet

FILE = "set.safetensors"
BASELINE_FILE = "baseline.safetensors"
PREVIEW_FILE = "preview.png"

_PNG = b"\x89PNG\r\n\x1a\n"


def save_set(folder: Path, distilled: DistilledSet) -> None:
    """Write a set into the folder of a run: set, preprocessing and, if there is one, baseline.

    Raises NumericsError for images or logits that are not finite, StoreError where the disk refuses.
    """
    from apmctl_core.storage import tensors as io

    s = distilled
    tensors = {"images": s.images, "logits": s.logits, "labels": s.labels, "stage": s.stage}
    baseline = {} if s.baseline is None else {"index": s.baseline.index_DM, "logits": s.baseline.logits_DMK}
    io.require_finite(tensors, "the set", "nothing is written; try a lower `distill.image_lr`")
    io.require_finite(baseline, "the baseline")
    io.write(folder / FILE, tensors)
    if baseline:
        io.write(folder / BASELINE_FILE, baseline)
    save_preprocessing(folder, s.preprocessing)


def load_set(artifact: Artifact) -> DistilledSet:
    """The set of an artifact, every value checked.

    Raises ArtifactError where something is damaged or the manifest and the tensors contradict each other.
    """
    from apmctl_core.values import Baseline, DistilledSet

    manifest = artifact.require("set")
    tensors, baseline = _read(artifact, FILE), None
    if BASELINE_FILE in manifest.files:
        draws = _read(artifact, BASELINE_FILE, len(tensors["images"]))
        baseline = Baseline(index_DM=draws["index"], logits_DMK=draws["logits"])
    preprocessing = load_preprocessing(artifact)
    return DistilledSet(**tensors, classes=manifest.classes, preprocessing=preprocessing, baseline=baseline)


def check_structure(artifact: Artifact) -> int:
    """Check a set's files by their headers alone, and against each other. Returns M. Raises ArtifactError."""
    manifest = artifact.require("set")
    count = _check_header(artifact, FILE)
    if BASELINE_FILE in manifest.files:
        _check_header(artifact, BASELINE_FILE, count)
    check_preprocessing(artifact)
    return count


def _layouts(manifest: Manifest, file: str, count: int | str) -> dict[str, Layout]:
    """Names, dtypes and shapes of the tensors in a file of a set of `count` images."""
    k = len(manifest.classes)
    if file == BASELINE_FILE:
        return {"index": Layout("I64", ("D", count)), "logits": Layout("F32", ("D", count, k))}
    return {
        "images": Layout("F32", (count, *manifest.shape)),
        "logits": Layout("F32", (count, k)),
        "labels": Layout("I64", (count,)),
        "stage": Layout("I64", (count,)),
    }


def _check_header(artifact: Artifact, file: str, count: int | str = "M") -> int:
    path = artifact.file(file)
    return check_layout(read_header(path), _layouts(artifact.manifest, file, count), path).get("M", 0)


def _read(artifact: Artifact, file: str, count: int | str = "M") -> dict[str, Any]:
    tensors = artifact.tensors(file, _layouts(artifact.manifest, file, count))
    _check_values(artifact, file, tensors)
    return tensors


def _check_values(artifact: Artifact, file: str, tensors: Mapping[str, Tensor]) -> None:
    from apmctl_core.storage import tensors as io

    path, ends = artifact.file(file), {"labels": len(artifact.manifest.classes), "stage": math.inf, "index": math.inf}
    io.check_finite(tensors, str(path))
    for name in tensors.keys() & ends.keys():
        if int(tensors[name].min()) < 0 or int(tensors[name].max()) >= ends[name]:
            raise ArtifactError(f"{path}: {name!r} holds values out of range", DAMAGED_HINT)


def _check(artifact: Artifact, *_: object) -> None:
    """Check every value as `load_set` does, piece by piece: memory does not grow with the set."""
    from apmctl_core.storage import tensors as io

    count = check_structure(artifact)
    for file in sorted(artifact.manifest.files.keys() & {FILE, BASELINE_FILE}):
        for name in _layouts(artifact.manifest, file, count):
            for piece in io.pieces(artifact.file(file), name):
                _check_values(artifact, file, {name: piece})
    load_preprocessing(artifact)
    if PREVIEW_FILE in artifact.manifest.files:
        with open_regular(artifact.file(PREVIEW_FILE)) as picture:
            if picture.read(len(_PNG)) != _PNG:
                raise ArtifactError(f"{PREVIEW_FILE} is not a PNG")


register(
    Kind(name="set", folder="sets", required=(FILE, SPACE_FILE), optional=(BASELINE_FILE, PREVIEW_FILE), check=_check)
)
