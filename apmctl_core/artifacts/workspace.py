"""The folder that a run works in: hidden beside its artifact's, and turned into the artifact by one rename."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact, open_stored
from apmctl_core.artifacts.kind import HISTORY, KINDS
from apmctl_core.artifacts.manifest import FileEntry, Manifest
from apmctl_core.artifacts.states import States
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Emit, silent
from apmctl_core.machine.interrupts import shielded
from apmctl_core.storage import files, strict_json
from apmctl_core.storage.files import discard
from apmctl_core.storage.strict_json import printable

PARTIAL = ".partial"
_MAX_HISTORY = 256 << 20


def partial_name(id: str) -> str:
    """The folder name of an unfinished run."""
    return f".{id}{PARTIAL}"


def _loggable(value: Any) -> Any:
    """The value without anything that `strict_json` refuses: strangers read a history, too."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(value) if isinstance(value, str) else value


def _cut_torn_line(file: BinaryIO) -> None:
    """Drop the end of a file of lines that a killed process left unfinished."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


class Workspace(States):
    """The folder of one run, with its states; use it through `Store.workspace`.

    `existing` is the finished artifact, if there was one when the lock was obtained: then nothing is left to do.
    """

    def __init__(self, kind_folder: Path, kind: str, name: str, id: str, emit: Emit = silent) -> None:
        super().__init__(kind_folder / name / partial_name(id), emit)
        self.kind = kind
        self.name = name
        self.id = id
        self.existing: Artifact | None = None
        self._kind_folder = kind_folder

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the artifact atomically. Raises StoreError, ValueError for a name that its kind lacks."""
        if not KINDS[self.kind].has(name):
            raise ValueError(f"a {self.kind} has no file {name!r}")
        files.write_bytes(self.path / name, data)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line of plain values to events.jsonl; numbers that are not finite become null. Raises StoreError."""
        path = self.path / HISTORY
        line = json.dumps({k: _loggable(v) for k, v in record.items()}, allow_nan=False).encode() + b"\n"
        with files.disk_errors(path), path.open("ab+") as file:
            _cut_torn_line(file)
            file.write(line)

    def logged(self, field: str) -> float:
        """The latest value of a number in the history, 0 where there is none."""
        with contextlib.suppress(ArtifactError, StoreError):
            for line in reversed(files.read_bounded(self._folder / HISTORY, _MAX_HISTORY).splitlines()):
                with contextlib.suppress(ArtifactError):  # the last one may be torn
                    value = strict_json.parse_object(line, "the history").get(field)
                    if isinstance(value, (int, float)):
                        return float(value)
        return 0.0

    def publish(self, draft: Manifest, document: bytes | None = None) -> Artifact:
        """Turn the folder into the artifact: files are hashed and flushed, then one rename moves it to its place.

        `document` are the bytes of a manifest from elsewhere, kept as they are; the files that such a draft lists must
        be the ones here. A sound artifact that already exists is kept instead. Raises ArtifactError, StoreError.
        """
        if (draft.kind, draft.id, draft.name) != (self.kind, self.id, self.name):
            raise ValueError(f"{draft.kind} {draft.name}@{draft.id} is not what this workspace is for")
        with files.disk_errors(self._folder):
            entries = self._entries()
        if draft.files and draft.files != entries:
            different = sorted(n for n in draft.files | entries if draft.files.get(n) != entries.get(n))
            raise ArtifactError(f"{different[0]} of {draft.name} is not what its manifest says", files.DAMAGED_HINT)
        if document is None:
            document = manifests.dumps(msgspec.structs.replace(draft, files=entries))
        with shielded():
            files.write_bytes(self._folder / manifests.FILE_NAME, document)
            with files.disk_errors(self._folder):
                self.existing = self._move()
        return self.existing

    def _entries(self) -> dict[str, FileEntry]:
        entries = {}
        for path in sorted(self.path.iterdir()):
            if KINDS[self.kind].has(path.name):
                files.sync(path)
                entries[path.name] = FileEntry(files.sha256_of(path), path.stat().st_size)
        return entries

    def _move(self) -> Artifact:
        """Remove what is not part of the artifact, and give the folder its final name."""
        target = self._kind_folder / self.name / self.id
        if target.exists():
            try:
                return open_stored(target, self.kind)
            except ArtifactError:
                discard(target)  # unusable, and its replacement is ready
        manifest = manifests.read(self._folder)
        for path in self._folder.iterdir():
            if path.name not in manifest.files and path.name != manifests.FILE_NAME:
                files.remove_tree(path)
        files.sync(self._folder)
        self._folder.rename(target)
        files.sync(target.parent)
        return Artifact(target, manifest)

    def enter(self, existing: Artifact | None) -> None:
        """Take over what an earlier run of the same id left, under whatever name, and remove its temporary files."""
        with files.disk_errors(self._folder):
            self._adopt()
            self.existing = existing or self._complete()
            for path in self._folder.glob(f".*{files.TEMPORARY}"):
                files.remove_tree(path)

    def _adopt(self) -> None:
        for folder in files.subfolders(self._kind_folder):
            partial = folder / partial_name(self.id)
            if folder.name == self.name or not partial.is_dir():
                continue
            if self._folder.exists():
                discard(partial)
            else:
                with files.disk_errors(partial, "rename"):
                    partial.rename(self.path)  # replaces the empty folder that `path` creates
            files.remove_empty(folder)

    def _complete(self) -> Artifact | None:
        """Publish a folder that a process was killed over between its manifest and the rename."""
        path = self._folder / manifests.FILE_NAME
        if not path.exists():
            return None
        try:
            kept = manifests.read(self._folder)
            if (kept.kind, kept.id, kept.name) == (self.kind, self.id, self.name) and kept.files == self._entries():
                return self._move()
        except ArtifactError:  # the run resumes from its states, if it has any
            pass
        files.remove_tree(path)
        return None

    def leave(self) -> None:
        """Remove the folder unless a run can resume from it, and the folders above if they are empty."""
        # The next run removes what is left; an error that led here matters more.
        with contextlib.suppress(OSError, StoreError):
            kept = self.resumed or (self._folder / manifests.FILE_NAME).exists()
            if self._folder.is_dir() and (self.existing is not None or not kept):
                discard(self._folder)
        files.remove_empty(self._folder, self._folder.parent, self._kind_folder)
