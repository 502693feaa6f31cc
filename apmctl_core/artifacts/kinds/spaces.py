"""The preprocessing of an artifact: the tensors that bring images into the space that networks train on, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import check_layout, read_header

if TYPE_CHECKING:
    from apmctl_core.data.preprocessing import Preprocessing

FILE = "preprocessing.safetensors"


def save_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    """Write a preprocessing into the folder of a run. Raises StoreError, NumericsError."""
    from apmctl_core.storage import tensors as io

    io.require_finite(preprocessing.tensors, "the preprocessing")
    io.write(folder / FILE, preprocessing.tensors)


def load_preprocessing(folder: Path, manifest: Manifest) -> Preprocessing:
    """The preprocessing in an artifact's folder, of the shape and kind given in its manifest.

    Raises ArtifactError where it is damaged, or of another shape or kind.
    """
    from apmctl_core.data.preprocessing import Preprocessing
    from apmctl_core.storage import tensors as io

    kind = check_preprocessing(folder, manifest)
    tensors, _ = io.read(folder / FILE, finite=True)
    if kind == "standard" and not bool((tensors["std"] > 0).all()):
        raise ArtifactError(f"{folder / FILE} has a standard deviation that is not positive", DAMAGED_HINT)
    return Preprocessing(kind, tensors)


def check_preprocessing(folder: Path, manifest: Manifest) -> str:
    """The kind of a preprocessing, checked as far as its file's header goes. Raises ArtifactError."""
    from apmctl_core.data.preprocessing import layouts

    path = folder / FILE
    header = read_header(path)
    kind = "zca" if "matrix" in header.tensors else "standard"
    data = manifest.recipe.get("data")
    expected = data.get("preprocessing", kind) if isinstance(data, dict) else kind
    if expected != kind:
        raise ArtifactError(f"{path} is of kind {kind}, the recipe says {str(expected)[:40]!r}", DAMAGED_HINT)
    check_layout(header, layouts(kind, manifest.shape), path)
    return kind
