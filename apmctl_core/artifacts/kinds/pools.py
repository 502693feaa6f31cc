"""Pools of teachers on disk: one file a teacher, read when the teacher is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, ShapesOf, register
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.artifacts.kinds.spaces import load_preprocessing, save_preprocessing
from apmctl_core.config import ModelConfig, from_dict
from apmctl_core.errors import ArtifactError, ConfigError, MismatchError
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.tensors import Layout, check_layout, read_header

if TYPE_CHECKING:
    from apmctl_core.values import State, TeacherPool

_DTYPES = ("F32", "I64")  # weights, and the counters that some layers keep
_TEACHER = re.compile(r"teacher-(\d{3})\.safetensors", re.ASCII)


def teacher_file(index: int) -> str:
    """The file of a pool's teacher `index` (0 to 999)."""
    return f"teacher-{index:03d}.safetensors"


def save_teacher(folder: Path, index: int, state: State) -> None:
    """Write the weights of teacher `index` into the folder of a run, atomically.

    Raises StoreError where the disk refuses, NumericsError for weights that are not finite.
    """
    io.require_finite(state, f"teacher {index}", "nothing is written; try a lower `teachers.lr`")
    io.write(folder / teacher_file(index), state)


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

    if artifact.kind != POOL.name:
        raise MismatchError(f"{artifact.ref} is a {artifact.kind}, not a pool", "give the pool to use")
    manifest = artifact.manifest
    model, num_classes = model_of(artifact), len(manifest.classes)
    try:
        shapes = shapes_of(model, manifest.shape, num_classes)
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref}: {e.message}", e.hint) from e
    layouts = {name: Layout(_DTYPES, tuple(shape)) for name, shape in shapes.items()}
    return TeacherPool(
        model=model,
        shape=manifest.shape,
        num_classes=num_classes,
        states=LazyStates(teacher_paths(artifact), layouts),
        preprocessing=load_preprocessing(artifact.path, manifest),
    )


def model_of(artifact: Artifact) -> ModelConfig:
    """The network of an artifact. Raises ArtifactError where its recipe has none."""
    try:
        return from_dict(ModelConfig, artifact.manifest.recipe.get("model"))
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref}: {e.message} in its recipe", DAMAGED_HINT) from e


def teacher_paths(artifact: Artifact) -> list[Path]:
    """The files of a pool's teachers, in order."""
    return [artifact.path / name for name in sorted(artifact.manifest.files) if _TEACHER.fullmatch(name)]


class LazyStates(Sequence["State"]):
    """The weights of a pool's teachers, each read from its file whenever it is indexed."""

    def __init__(self, paths: Sequence[Path], layouts: Mapping[str, Layout]) -> None:
        """Raises ArtifactError where a file's header is not as `layouts` says; values are checked when read."""
        self._paths = tuple(paths)
        self._layouts = dict(layouts)
        for path in self._paths:
            check_layout(read_header(path), self._layouts, path)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> State:  # type: ignore[override]  # nobody takes slices of teachers
        return io.read(self._paths[index], self._layouts, finite=True)[0]


def _check(artifact: Artifact, shapes_of: ShapesOf) -> None:
    for _ in load_pool(artifact, shapes_of).states:
        pass


POOL = register(
    Kind(name="pool", folder="pools", required=(teacher_file(0), SPACE_FILE), series=_TEACHER, check=_check)
)
