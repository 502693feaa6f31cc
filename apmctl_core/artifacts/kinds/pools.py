"""Pools of teachers on disk: one file a teacher, read when the teacher is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.spaces import load_preprocessing, save_preprocessing
from apmctl_core.config import ModelConfig, from_dict
from apmctl_core.errors import ArtifactError, ConfigError, MismatchError
from apmctl_core.storage import tensors as io
from apmctl_core.storage.files import DAMAGED_HINT
from apmctl_core.storage.header import Layout, check_layout, read_header
from apmctl_core.values import State, TeacherPool

Shapes = Mapping[str, tuple[int, ...]]
# Names and shapes of the weights of a network, images (C, H, W) and a number of classes given.
ShapesOf = Callable[[ModelConfig, tuple[int, int, int], int], Shapes]

_DTYPES = ("F32", "I64")  # weights, and the counters that some layers keep


def save_teacher(folder: Path, index: int, state: State) -> None:
    """Write the weights of teacher `index` into the folder of a run, atomically.

    Raises StoreError where the disk refuses, NumericsError for weights that are not finite.
    """
    io.require_finite(state, f"teacher {index}", "nothing is written; try a lower --lr")
    io.write(folder / manifests.teacher_file(index), state)


def save_pool(folder: Path, pool: TeacherPool) -> None:
    """Write a pool into the folder of a run: teacher-000.safetensors and on, and preprocessing.safetensors."""
    for index in range(len(pool)):
        save_teacher(folder, index, pool.states[index])
    save_preprocessing(folder, pool.preprocessing)


def load_pool(artifact: Artifact, expected: Shapes | ShapesOf) -> TeacherPool:
    """The pool of an artifact; each teacher's weights are read, and checked whole, when they are asked for.

    `expected` gives names and shapes of the weights, e.g. `models.registry.state_shapes`. Raises ArtifactError where
    something is damaged or the manifest contradicts itself or the tensors.
    """
    manifest = artifact.manifest
    model, num_classes = model_of(artifact), len(manifest.classes)
    if callable(expected):
        try:
            expected = expected(model, manifest.shape, num_classes)
        except ConfigError as e:
            raise ArtifactError(f"{artifact.ref}: {e.message}", e.hint) from e
    layouts = {name: Layout(_DTYPES, tuple(shape)) for name, shape in expected.items()}
    states = LazyStates(teacher_paths(artifact), layouts)
    preprocessing = load_preprocessing(artifact.path, manifest)
    return TeacherPool(
        model=model, shape=manifest.shape, num_classes=num_classes, states=states, preprocessing=preprocessing
    )


def model_of(artifact: Artifact) -> ModelConfig:
    """The network of an artifact. Raises ArtifactError where its recipe has none or its config has another."""
    manifest = artifact.manifest
    said = manifest.recipe.get("model")
    if manifest.config.get("model", said) != said:
        raise ArtifactError(f"{artifact.ref}: config and recipe name different networks", DAMAGED_HINT)
    try:
        return from_dict(ModelConfig, said)
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref}: {e.message} in its recipe", DAMAGED_HINT) from e


def teacher_paths(artifact: Artifact) -> list[Path]:
    """The files of a pool's teachers, in order. Raises MismatchError for an artifact of another kind."""
    if artifact.kind != "pool":
        raise MismatchError(f"{artifact.ref} is a {artifact.kind}, not a pool", "give the pool to use")
    count = sum(name.startswith("teacher-") for name in artifact.manifest.files)
    return [artifact.file(manifests.teacher_file(index)) for index in range(count)]


class LazyStates(Sequence[State]):
    """The weights of a pool's teachers, each read from its file whenever it is indexed."""

    def __init__(self, paths: Sequence[Path], layouts: Mapping[str, Layout]) -> None:
        """Raises ArtifactError where a file's header is not as `layouts` says; values are checked when read."""
        self._paths = tuple(paths)
        self._layouts = dict(layouts)
        for path in self._paths:
            check_layout(read_header(path), self._layouts, path)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> State: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[State]: ...
    def __getitem__(self, index: int | slice) -> State | Sequence[State]:
        if isinstance(index, slice):
            return LazyStates(self._paths[index], self._layouts)
        return io.read(self._paths[index], self._layouts, finite=True)[0]

    def __iter__(self) -> Iterator[State]:
        return (self[index] for index in range(len(self)))
