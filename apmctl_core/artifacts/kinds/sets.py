"""Distilled sets on disk: images, logits, labels and stages; the preprocessing; the random baseline beside them.

Shape legend: M images in a set, C channels, H x W pixels, K classes, D draws of a random baseline.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, register
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.artifacts.kinds.spaces import check_preprocessing, load_preprocessing, save_preprocessing
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.errors import ArtifactError, MismatchError
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import DAMAGED_HINT, open_regular
from apmctl_core.storage.tensors import Layout, check_layout, read_header

if TYPE_CHECKING:
    from torch import Tensor

    from apmctl_core.values import Baseline, DistilledSet

FILE = "set.safetensors"
BASELINE_FILE = "baseline.safetensors"
PREVIEW_FILE = "preview.png"

_PNG = b"\x89PNG\r\n\x1a\n"


def save_set(folder: Path, distilled: DistilledSet) -> None:
    """Write a set into the folder of a run: set, preprocessing and, if there is one, baseline.

    Raises NumericsError for images or logits that are not finite, StoreError where the disk refuses.
    """
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
    from apmctl_core.values import DistilledSet

    manifest = artifact.manifest
    count = check_structure(artifact)
    tensors, _ = io.read(artifact.file(FILE), layouts(manifest), finite=True)
    _check_range(tensors["labels"], len(manifest.classes), artifact.file(FILE), "labels")
    _check_range(tensors["stage"], None, artifact.file(FILE), "stage")
    return DistilledSet(
        images=tensors["images"],
        logits=tensors["logits"],
        labels=tensors["labels"],
        stage=tensors["stage"],
        classes=manifest.classes,
        preprocessing=load_preprocessing(artifact.path, manifest),
        baseline=_load_baseline(artifact, count),
    )


def _check_pieces(path: Path, finite: tuple[str, ...], below: dict[str, int | None]) -> None:
    for name in finite:
        for piece in io.pieces(path, name):
            io.check_finite({name: piece}, str(path))
    for name, limit in below.items():
        for piece in io.pieces(path, name):
            _check_range(piece, limit, path, name)


def check_structure(artifact: Artifact) -> int:
    """Check a set's files by their headers alone, and against each other. Returns M. Raises ArtifactError."""
    if artifact.kind != SET.name:
        raise MismatchError(f"{artifact.ref} is a {artifact.kind}, not a set", "give the set to use")
    manifest = artifact.manifest
    path = artifact.file(FILE)
    sizes = check_layout(read_header(path), layouts(manifest), path)
    if BASELINE_FILE in manifest.files:
        other = artifact.file(BASELINE_FILE)
        check_layout(read_header(other), baseline_layouts(manifest, sizes["M"]), other)
    check_preprocessing(artifact.path, manifest)
    return sizes["M"]


def layouts(manifest: Manifest) -> dict[str, Layout]:
    """Names, dtypes and shapes of a set's tensors."""
    return {
        "images": Layout("F32", ("M", *manifest.shape)),
        "logits": Layout("F32", ("M", len(manifest.classes))),
        "labels": Layout("I64", ("M",)),
        "stage": Layout("I64", ("M",)),
    }


def baseline_layouts(manifest: Manifest, count: int) -> dict[str, Layout]:
    """Names, dtypes and shapes of the baseline of a set of `count` images."""
    k = len(manifest.classes)
    return {"index": Layout("I64", ("D", count)), "logits": Layout("F32", ("D", count, k))}


def _load_baseline(artifact: Artifact, count: int) -> Baseline | None:
    if BASELINE_FILE not in artifact.manifest.files:
        return None
    from apmctl_core.values import Baseline

    path = artifact.file(BASELINE_FILE)
    tensors, _ = io.read(path, baseline_layouts(artifact.manifest, count), finite=True)
    _check_range(tensors["index"], None, path, "index")
    return Baseline(index_DM=tensors["index"], logits_DMK=tensors["logits"])


def _check_range(values: Tensor, below: int | None, path: Path, name: str) -> None:
    if int(values.min()) < 0 or (below is not None and int(values.max()) >= below):
        raise ArtifactError(f"{path}: {name!r} holds values out of range", DAMAGED_HINT)


def _check(artifact: Artifact, *_: object) -> None:
    """Check every value as `load_set` does, piece by piece: memory does not grow with the set."""
    check_structure(artifact)
    path, classes = artifact.file(FILE), len(artifact.manifest.classes)
    _check_pieces(path, finite=("images", "logits"), below={"labels": classes, "stage": None})
    if BASELINE_FILE in artifact.manifest.files:
        _check_pieces(artifact.file(BASELINE_FILE), finite=("logits",), below={"index": None})
    load_preprocessing(artifact.path, artifact.manifest)
    if PREVIEW_FILE in artifact.manifest.files:
        with open_regular(artifact.file(PREVIEW_FILE)) as file:
            if file.read(len(_PNG)) != _PNG:
                raise ArtifactError(f"{PREVIEW_FILE} is not a PNG")


SET = register(
    Kind(
        name="set",
        folder="sets",
        required=(FILE, SPACE_FILE),
        optional=(BASELINE_FILE, PREVIEW_FILE),
        check=_check,
    )
)
