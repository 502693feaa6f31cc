"""The store: `pools/`, `sets/` and `reports/`, each with `NAME/ID/` a folder per artifact; `locks/` and `cache/`.

Reading creates nothing: a store that does not exist is empty. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts import refs, states
from apmctl_core.artifacts.artifact import Artifact, Damaged, open_artifact, open_stored
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.refs import Entry
from apmctl_core.artifacts.workspace import PARTIAL, TRASH, Workspace, discard
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.storage import files, locks

Artifacts = list[Artifact]
list_ = list  # inside Store, `list` is a method
_PARTIAL = re.compile(rf"\.([0-9a-f]{{12}}){re.escape(PARTIAL)}")


@dataclass(frozen=True)
class Run:
    """An unfinished run: its progress (`done`, `total`, `unit`), and the process that works on it, or did last."""

    path: Path
    kind: str
    name: str
    id: str
    progress: dict[str, Any] | None
    owner: locks.Owner | None
    running: bool

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"


class Store:
    """The artifacts under one folder. Methods raise StoreError where the folder cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def cache(self) -> Path:
        """Where decoded data sets are kept; it may not exist yet."""
        return self.root / "cache"

    @property
    def locks(self) -> Path:
        """The folder of the locks; it may not exist yet."""
        return self.root / "locks"

    # --- reading

    def get(self, kind: str, id: str) -> Artifact | None:
        """The sound artifact of that kind and id, whatever its name, or None."""
        for entry in self._entries(kind):
            if entry.finished and entry.id == id:
                with contextlib.suppress(ArtifactError):
                    return open_stored(entry.path, kind)
        return None

    def find(self, ref: str, kind: str | None = None) -> Artifact:
        """The artifact that `ref` means: a name, `name@id`, a unique prefix (four digits or more) of an id, a path.

        Raises ArtifactError where it is missing (with names that are near), ambiguous (with all that it could be),
        damaged, or of another kind.
        """
        path = refs.as_path(ref)
        if path is not None:
            return open_artifact(path, kind)
        entries = self._entries()
        if not refs.matching(ref, entries) and files.regular_size(Path(ref) / manifests.FILE_NAME) is not None:
            return open_artifact(Path(ref), kind)
        entry = refs.resolve(ref, entries, kind)
        if not entry.finished:
            raise ArtifactError(
                f"{entry.ref} is a {entry.kind} that is not finished", "rerun the command that began it to resume"
            )
        return open_stored(entry.path, entry.kind)

    def target(self, ref: str, kind: str | None = None) -> Artifact | Damaged | Run:
        """What `remove` would remove: as `find`, but damaged artifacts and unfinished runs count, and paths do not."""
        entry = refs.resolve(ref, self._entries(), kind)
        return self._open(entry) if entry.finished else self._run(entry)

    def list(self, kind: str | None = None, emit: Emit = silent) -> Artifacts:
        """All sound artifacts by kind and name; damaged ones are skipped, with a Note for each."""
        artifacts, damaged = self.scan(kind)
        for each in damaged:
            emit(Note(text=f"left out {each.ref}: {each.error.message}", level="warning"))
        return artifacts

    def scan(self, kind: str | None = None) -> tuple[Artifacts, list_[Damaged]]:
        """All sound artifacts, and all damaged ones."""
        opened = [self._open(entry) for entry in self._entries(kind) if entry.finished]
        return [a for a in opened if isinstance(a, Artifact)], [a for a in opened if isinstance(a, Damaged)]

    def runs(self) -> list_[Run]:
        """All unfinished runs, with their progress."""
        return [self._run(entry) for entry in self._entries() if not entry.finished]

    def kept_bytes(self, kind: str, id: str) -> int:
        """The bytes that an unfinished run of that kind and id has on the disk, 0 without such a run."""
        runs = [e.path for e in self._entries(kind) if e.id == id and not e.finished]
        return sum(files.regular_size(path) or 0 for run in runs for path in run.glob("*"))

    # --- writing and removing

    @contextlib.contextmanager
    def workspace(
        self,
        kind: str,
        name: str,
        id: str,
        wait: bool = True,
        emit: Emit = silent,
    ) -> Iterator[Workspace]:
        """The workspace of an artifact, for one process at a time.

        Its `existing` is the artifact that another process may have finished meanwhile: look there first. When the
        block is left, what was neither published nor kept by `save_state` is removed. Waits for a process that builds
        the same artifact, or raises StoreError with `wait=False`.
        """
        manifests.check_name(name)
        with locks.hold(self.locks, f"{kind}-{id}", f"{kind} {name}@{id}", wait=wait, emit=emit):
            self._sweep(kind)
            work = Workspace(self._folder(kind), kind, name, id, emit)
            try:
                work.enter(self.get(kind, id))
                yield work
            finally:
                work.leave()

    def tidy(self, kind: str, id: str) -> None:
        """Remove what a process left that was killed after it published this artifact, with its lock still held."""
        if locks.is_left(self.locks, f"{kind}-{id}"):
            # A process that holds the lock removes it; on a read-only store it is harmless.
            with contextlib.suppress(StoreError), locks.hold(self.locks, f"{kind}-{id}", id, wait=False):
                self._sweep(kind)

    def remove(self, target: Artifact | Damaged | Run) -> None:
        """Remove an artifact or an unfinished run: hidden by one rename, then deleted.

        Raises StoreError while a process works on it, ArtifactError where it is not in this store.
        """
        folder = self._folder(target.kind)
        if target.path.resolve().parent.parent != folder.resolve():
            raise ArtifactError(f"{target.path} is not in the store {self.root}", "remove the folder by hand")
        name = f"{target.kind} {target.ref}"
        with locks.hold(
            self.locks, f"{target.kind}-{target.id}", name, wait=False, hint="stop it first, then remove it"
        ):
            discard(target.path)
            self._sweep(target.kind)
            files.remove_empty(target.path.parent, folder)

    # --- the folders

    def _folder(self, kind: str) -> Path:
        return self.root / KINDS[kind].folder

    def _entries(self, kind: str | None = None) -> list_[Entry]:
        """Every folder whose place says that it is an artifact or an unfinished run; links are not followed."""
        files.subfolders(self.root)  # whether it can be read at all
        entries = []
        for each in KINDS if kind is None else (kind,):
            for folder in files.subfolders(self._folder(each)):
                if manifests.is_name(folder.name):
                    entries += [e for path in files.subfolders(folder) if (e := _entry(each, path))]
        return entries

    def _open(self, entry: Entry) -> Artifact | Damaged:
        try:
            return open_stored(entry.path, entry.kind)
        except (ArtifactError, StoreError) as e:
            return Damaged(entry.path, entry.kind, entry.name, entry.id, e)

    def _run(self, entry: Entry) -> Run:
        owner = locks.owner_of(self.locks, f"{entry.kind}-{entry.id}")
        progress = states.progress(entry.path)
        alive = owner is not None and owner.alive
        return Run(entry.path, entry.kind, entry.name, entry.id, progress, owner, alive)

    def _sweep(self, kind: str) -> None:
        """Finish removals that were killed; another process may do the same at the same time."""
        for trash in self._folder(kind).glob(f"*/.*{TRASH}"):
            files.remove_tree(trash)
            files.remove_empty(trash.parent)


def _entry(kind: str, path: Path) -> Entry | None:
    if manifests.is_id(path.name):
        return Entry(kind, path.parent.name, path.name, path)
    partial = _PARTIAL.fullmatch(path.name)
    return Entry(kind, path.parent.name, partial[1], path, finished=False) if partial else None
