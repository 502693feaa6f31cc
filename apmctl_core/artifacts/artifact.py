"""An artifact on disk: its folder and its manifest, checked against each other before anything else is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.errors import ApmError, ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT, is_folder, regular_size


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    path: Path
    manifest: Manifest

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


@dataclass(frozen=True)
class Damaged:
    """A folder where an artifact should be, and what is wrong with it."""

    path: Path
    kind: str
    name: str
    id: str
    error: ApmError

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"


def open_artifact(path: Path, kind: str | None = None) -> Artifact:
    """The artifact in a folder: its manifest is checked, its files exist and have the right size.

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
    return Artifact(path, manifest)


def open_stored(path: Path, kind: str) -> Artifact:
    """The same for `STORE/KINDs/NAME/ID`, whose manifest must have that name and id."""
    artifact = open_artifact(path, kind)
    if (artifact.name, artifact.id) != (path.parent.name, path.name):
        raise ArtifactError(f"{path} holds {artifact.ref}", f"move it to {artifact.name}/{artifact.id}, or remove it")
    return artifact
