"""Pools of teachers on disk: one file a teacher, read when the teacher is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, ShapesOf, register
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.artifacts.kinds.spaces import load_preprocessing, save_preprocessing
from apmctl_core.config import ModelConfig, from_dict
from apmctl_core.errors import ArtifactError, ConfigError
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Layout, check_layout, read_header

if TYPE_CHECKING:
    from apmctl_core.values import State, TeacherPool

_DTYPES = ("F32", "I64")  # weights, and the counters that some layers keep
_TEACHERS = tuple(f"teacher-{index:03d}.safetensors" for index in range(1000))


def save_teacher(folder: Path, index: int, state: State) -> None:
    """Write the weights of teacher `index` into the folder of a run, atomically.

    Raises StoreError where the disk refuses, NumericsError for weights that are not finite.
    """
    from apmctl_core.storage import tensors as io

    io.require_finite(state, f"teacher {index}", "nothing is written; try a lower `teachers.lr`")
    io.write(folder / _TEACHERS[index], state)


def save_pool(folder: Path, pool: TeacherPool) -> None:
    """Write a pool into the folder of a run: teacher-000.safetensors and on, and preprocessing.safetensors."""
    for index in range(len(pool)):
        save_teacher(folder, index, pool.states[index])
    save_preprocessing(folder, pool.preprocessing)


def load_pool(artifact: Artifact, shapes_of: ShapesOf) -> TeacherPool:
    """The pool of an artifact; each teacher's weights are read, and checked whole, when they are asked for.

    `shapes_of` gives names and shapes of the weights, e.g. `models.registry.state_shapes`. Raises ArtifactError where
    something is damaged or the manifest contradicts the tensors, MismatchError for an artifact of another kind.
    """
    from apmctl_core.values import TeacherPool

    manifest = artifact.require("pool")
    num_classes = len(manifest.classes)
    try:
        model = from_dict(ModelConfig, manifest.recipe.get("model"))
        shapes = shapes_of(model, manifest.shape, num_classes)
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref}: {e.message} in its recipe", e.hint or DAMAGED_HINT) from e
    layouts = {name: Layout(_DTYPES, tuple(shape)) for name, shape in shapes.items()}
    return TeacherPool(
        model=model,
        shape=manifest.shape,
        num_classes=num_classes,
        states=LazyStates(artifact, layouts),
        preprocessing=load_preprocessing(artifact),
    )


def teacher_files(artifact: Artifact) -> list[str]:
    """The names of the files of a pool's teachers, in order."""
    return [name for name in _TEACHERS if name in artifact.manifest.files]


class LazyStates(Sequence["State"]):
    """The weights of a pool's teachers, each read from its file, and checked whole, whenever it is indexed."""

    def __init__(self, artifact: Artifact, layouts: Mapping[str, Layout]) -> None:
        """Raises ArtifactError where a file's header is not as `layouts` says."""
        self._artifact, self._layouts = artifact, layouts
        self._names = teacher_files(artifact)
        for name in self._names:
            check_layout(read_header(artifact.file(name)), layouts, artifact.file(name))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> State:  # type: ignore[override]  # nobody takes slices of teachers
        return self._artifact.tensors(self._names[index], self._layouts, finite=True)


def _check(artifact: Artifact, shapes_of: ShapesOf) -> None:
    for _ in load_pool(artifact, shapes_of).states:
        pass


register(Kind(name="pool", folder="pools", required=(_TEACHERS[0], SPACE_FILE), series=_TEACHERS, check=_check))
