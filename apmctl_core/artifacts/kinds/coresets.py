"""Coresets on disk: which real images were chosen, and their logits; never the images.

Shape legend: M images in a coreset, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, register
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Layout

if TYPE_CHECKING:
    from apmctl_core.values import Baseline

FILE = "coreset.safetensors"


def save_coreset(folder: Path, coreset: Baseline) -> None:
    """Write a coreset into the folder of a run. Raises NumericsError, StoreError."""
    from apmctl_core.storage import tensors as io

    tensors = {"index": coreset.index_DM, "logits": coreset.logits_DMK}
    io.require_finite(tensors, "the coreset")
    io.write(folder / FILE, tensors)


def load_coreset(artifact: Artifact) -> Baseline:
    """The coreset of an artifact, every value checked. Raises ArtifactError, MismatchError for another kind."""
    from apmctl_core.values import Baseline

    classes = len(artifact.require("coreset").classes)
    layouts = {"index": Layout("I64", (1, "M")), "logits": Layout("F32", (1, "M", classes))}
    tensors = artifact.tensors(FILE, layouts, finite=True)
    if int(tensors["index"].min()) < 0:
        raise ArtifactError(f"{artifact.file(FILE)}: 'index' holds values out of range", DAMAGED_HINT)
    return Baseline(index_DM=tensors["index"], logits_DMK=tensors["logits"])


register(Kind(name="coreset", folder="coresets", required=(FILE,), check=lambda artifact, _: load_coreset(artifact)))
