"""An artifact on disk: its folder and its manifest, checked against each other before anything else is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.artifacts.request import Request
from apmctl_core.errors import ApmError, ArtifactError, MismatchError
from apmctl_core.storage.files import DAMAGED_HINT, is_folder, regular_size, require_sha256
from apmctl_core.storage.tensors import Layout, read

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Artifact:
    """A finished artifact; `content` is what its kind's `quick_check` has read of it."""

    path: Path
    manifest: Manifest
    content: Any = field(default=None, compare=False, repr=False)

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"

    @property
    def size(self) -> int:
        """Bytes of all files, without the manifest."""
        return sum(entry.size for entry in self.manifest.files.values())

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists. Raises ArtifactError where it lists none of that name."""
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.ref} has no file {name}", DAMAGED_HINT)
        return self.path / name

    def require_sha256(self, name: str, sha256: str) -> None:
        """Raise ArtifactError where the sha256 of a file is not the one that the manifest lists."""
        require_sha256(self.path / name, self.manifest.files[name].sha256, sha256)

    def tensors(self, name: str, expected: Mapping[str, Layout], *, finite: bool = False) -> dict[str, Tensor]:
        """The tensors of a file, which must be the bytes that were written, laid out as `expected`.

        Raises ArtifactError, StoreError.
        """
        return read(self.file(name), expected, finite=finite, sha256=self.manifest.files[name].sha256)[0]

    def require(self, kind: str) -> Manifest:
        """The manifest of this artifact, which must be a `kind`. Raises MismatchError."""
        if self.kind != kind:
            raise MismatchError(f"{self.ref} is a {self.kind}, not a {kind}", f"give the {kind} to use")
        return self.manifest


@dataclass(frozen=True)
class Entry:
    """A folder of the store by its names alone: `STORE/KINDs/NAME/ID`, or that of an unfinished run."""

    kind: str
    name: str
    id: str
    path: Path

    @property
    def finished(self) -> bool:
        return self.path.name == self.id

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"


@dataclass(frozen=True)
class Damaged(Entry):
    """A folder where an artifact should be, and what is wrong with it."""

    error: ApmError


@dataclass(frozen=True)
class Run(Entry):
    """An unfinished run: its progress (`done`, `total`, `unit`), who works on it, and how it was asked for, if known.

    `saved` is when its latest state was written, in seconds since 1970, None before the first one.
    """

    progress: dict[str, Any] | None
    owner: str | None
    saved: float | None
    request: Request | None

    @property
    def running(self) -> bool:
        return self.owner is not None

    @property
    def goal(self) -> Entry | None:
        """What the run was begun for, if that is something else than the run itself makes."""
        name, _, id = self.request.target.partition("@") if self.request else ("", "", "")
        return Entry(self.kind, name, id, self.path) if id not in ("", self.id) else None


def open_artifact(path: Path, kind: str | None = None) -> Artifact:
    """The artifact in a folder: its manifest is checked, its files exist and have the right size, a report is sound.

    Raises ArtifactError where it is missing, damaged, of a newer schema, or not of the `kind` asked for.
    """
    if re.match(r"[a-z]+:/", str(path)):  # a URL is not repeated: it may hold credentials
        raise ArtifactError("a URL cannot name an artifact", "write hf:owner/name for a repository on the Hub")
    if not is_folder(path):
        raise ArtifactError(f"{path} is not the folder of an artifact", "`list` shows what is in the store")
    manifest = manifests.read(path)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path} is a {manifest.kind}, not a {kind}", f"give the {kind} to use")
    for name, entry in manifest.files.items():
        size = regular_size(path / name)
        if size != entry.size:
            problem = "is missing or not an ordinary file" if size is None else f"has {size} bytes, not {entry.size}"
            raise ArtifactError(f"{path / name} {problem}", DAMAGED_HINT)
    artifact = Artifact(path, manifest)
    return replace(artifact, content=KINDS[artifact.kind].quick_check(artifact))


def open_stored(path: Path, kind: str) -> Artifact:
    """The same for `STORE/KINDs/NAME/ID`, whose manifest must have that id; the folder gives the name.

    The manifest has another name where the renaming of an artifact was killed after the folder had moved.
    """
    artifact, name = open_artifact(path, kind), path.parent.name
    if artifact.id != path.name:
        raise ArtifactError(f"{path} holds {artifact.ref}", f"move it to {artifact.name}/{artifact.id}, or remove it")
    if artifact.name == name:
        return artifact
    return replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, name=name))
