"""The preprocessing of an artifact: the tensors that bring images into the space that networks train on, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Layout, check_layout, read_header

if TYPE_CHECKING:
    from apmctl_core.data.preprocessing import Preprocessing

FILE = "preprocessing.safetensors"


def save_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    """Write a preprocessing into the folder of a run. Raises StoreError, NumericsError."""
    from apmctl_core.data import packed
    from apmctl_core.storage import tensors as io

    io.require_finite(preprocessing.tensors, "the preprocessing")
    io.write(folder / FILE, packed.pack(preprocessing))


def load_preprocessing(artifact: Artifact) -> Preprocessing:
    """The preprocessing of an artifact, of the shape and kind given in its manifest.

    Raises ArtifactError where it is damaged, or of another shape or kind.
    """
    from apmctl_core.data import packed

    tensors = artifact.tensors(FILE, check_preprocessing(artifact), finite=True)
    if "std" in tensors and not bool((tensors["std"] > 0).all()):
        raise ArtifactError(f"{artifact.file(FILE)} has a standard deviation that is not positive", DAMAGED_HINT)
    return packed.unpack(tensors)


def check_preprocessing(artifact: Artifact) -> dict[str, Layout]:
    """The layout of a preprocessing, checked as far as its file's header goes. Raises ArtifactError."""
    from apmctl_core.data import packed

    path, manifest = artifact.file(FILE), artifact.manifest
    header = read_header(path)
    kind = packed.kind_of(header.tensors)
    data = manifest.recipe.get("data")
    expected = data.get("preprocessing", kind) if isinstance(data, dict) else kind
    if expected != kind:
        raise ArtifactError(f"{path} is of kind {kind}, the recipe says {str(expected)[:40]!r}", DAMAGED_HINT)
    layouts = packed.layouts(header.tensors, manifest.shape)
    check_layout(header, layouts, path)
    return layouts
