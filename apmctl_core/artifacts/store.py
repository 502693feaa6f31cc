"""The store: `pools/`, `sets/` and `reports/`, each with `NAME/ID/` a folder per artifact; `locks/` and `cache/`.

Reading creates nothing: a store that does not exist is empty. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts import refs, states
from apmctl_core.artifacts import request as requests
from apmctl_core.artifacts.artifact import Artifact, Damaged, Entry, Run, open_artifact, open_stored
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.workspace import PARTIAL, Workspace, partial_name
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine.interrupts import shielded
from apmctl_core.storage import files, locks
from apmctl_core.storage.files import TRASH, discard
from apmctl_core.storage.garbage import Garbage

_WAIT = "wait for it to end, then rename it"
list_ = list  # inside Store, `list` is a method


class Store:
    """The artifacts under one folder. Methods raise StoreError where the folder cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.cache = self.root / "cache"  # of decoded data sets; it may not exist yet
        self.locks = self.root / "locks"

    def get(self, kind: str, id: str) -> Artifact | None:
        """The sound artifact of that kind and id, whatever its name, or None."""
        for entry in self._entries(kind):
            if entry.finished and entry.id == id:
                with contextlib.suppress(ArtifactError):
                    return open_stored(entry.path, kind)
        return None

    def find(self, ref: str, kind: str | None = None, emit: Emit = silent) -> Artifact:
        """The artifact that `ref` means: a name, `name@id`, a unique prefix (four digits or more) of an id, a path.

        Of several artifacts of a name it is the newest; a Note says so, and what sets it apart. Raises ArtifactError
        where it is missing (with names that are near), the prefix of several, damaged, or of another kind.
        """
        path = Path(ref)
        if os.sep in ref or "/" in ref or ref in (".", "..") or ref.startswith("~"):
            with contextlib.suppress(RuntimeError):  # an unknown user
                path = path.expanduser()
            return open_artifact(path, kind)
        entries = self._entries()
        if not refs.matching(ref, entries) and files.regular_size(path / manifests.FILE_NAME) is not None:
            return open_artifact(path, kind)
        fitting = refs.fitting(ref, entries, kind)
        if len(fitting) > 1 and all(entry.finished and entry.name == ref for entry in fitting):
            return self._newest(ref, fitting, emit)
        entry = refs.only(ref, fitting)
        if not entry.finished:
            problem = f"{entry.ref} is a {entry.kind} that is not finished"
            raise ArtifactError(problem, f"`resume {entry.id}` resumes it, as the command does that began it")
        return open_stored(entry.path, entry.kind)

    def _newest(self, name: str, entries: Sequence[Entry], emit: Emit) -> Artifact:
        """The newest of several artifacts of a name that are not damaged; a Note tells it from the others."""
        opened = [self._open(entry) for entry in entries]
        for entry in opened:
            if isinstance(entry, Damaged):
                emit(Note(text=f"skipped {entry.ref}: {entry.error.message}", level="warning"))
        sound = sorted((a for a in opened if isinstance(a, Artifact)), key=refs.age, reverse=True)
        if not sound:
            return open_stored(entries[0].path, entries[0].kind)  # raises what is wrong with it
        if len(sound) > 1:
            emit(Note(text=refs.told(name, sound)))
        return sound[0]

    def target(self, ref: str) -> Artifact | Damaged | Run:
        """What `remove` would remove: as `find`, but damaged artifacts and unfinished runs count, and paths do not.

        A name of several is refused: nothing is removed because it happens to be the newest.
        """
        entry = refs.only(ref, refs.fitting(ref, self._entries()))
        return self._open(entry) if entry.finished else self._run(entry)

    def match(self, pattern: str) -> list_[Artifact | Damaged | Run]:
        """All whose name or name@id matches a pattern with `*`, `?` or `[...]`, save runs that a process works on.

        Raises ArtifactError where nothing does.
        """
        names = [e for e in self._entries() if any(fnmatch.fnmatchcase(text, pattern) for text in (e.name, e.ref))]
        targets = [self._open(entry) if entry.finished else self._run(entry) for entry in names]
        idle = [target for target in targets if not (isinstance(target, Run) and target.running)]
        if not idle:
            raise ArtifactError(f"nothing in the store matches {pattern!r}", "`list` shows what is in it")
        return idle

    def list(self, kind: str | None = None) -> list_[Artifact]:
        """All sound artifacts by kind and name."""
        return self.scan(kind)[0]

    def scan(self, kind: str | None = None) -> tuple[list_[Artifact], list_[Damaged]]:
        """All sound artifacts, and all damaged ones."""
        opened = [self._open(entry) for entry in self._entries(kind) if entry.finished]
        return [a for a in opened if isinstance(a, Artifact)], [a for a in opened if isinstance(a, Damaged)]

    def runs(self) -> list_[Run]:
        """All unfinished runs, with their progress."""
        return [self._run(entry) for entry in self._entries() if not entry.finished]

    def run(self, ref: str) -> Run | None:
        """The unfinished run that `ref` means, as in `unfinished`; None where it means something else or several."""
        if any(entry.finished for entry in refs.matching(ref, self._entries())):
            return None
        runs = self._runs_of(ref)
        return runs[0] if len(runs) == 1 else None

    def unfinished(self, ref: str) -> Run:
        """The unfinished run that `ref` means, by its own name or id or by those of what it was begun for.

        Raises ArtifactError where there is none, or where there are several.
        """
        runs = self._runs_of(ref)
        if len(runs) > 1:
            raise refs.ambiguous(ref, runs)
        if not runs and (finished := refs.matching(ref, self._entries())):
            raise ArtifactError(f"{finished[0].ref} is finished: there is nothing to resume", "`show` shows it")
        if not runs:
            raise ArtifactError(f"there is no unfinished run {ref!r} in the store", "`list` shows all")
        return runs[0]

    def _runs_of(self, ref: str) -> list_[Run]:
        runs = self.runs()
        return refs.matching(ref, runs) or [run for run in runs if run.goal and refs.matching(ref, [run.goal])]

    def kept_bytes(self, kind: str, id: str) -> int:
        """The bytes that an unfinished run of that kind and id has on the disk, 0 without such a run."""
        runs = [e.path for e in self._entries(kind) if e.id == id and not e.finished]
        return sum(map(files.tree_bytes, runs))

    @contextlib.contextmanager
    def workspace(self, kind: str, name: str, id: str, wait: bool = True, emit: Emit = silent) -> Iterator[Workspace]:
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
        key, name, hint = f"{target.kind}-{target.id}", f"{target.kind} {target.ref}", "stop it first, then remove it"
        with locks.hold(self.locks, key, name, wait=False, hint=hint):
            discard(target.path)
            self._sweep(target.kind)
            files.remove_empty(target.path.parent, folder)

    def rename(self, artifact: Artifact, name: str, emit: Emit = silent) -> Artifact:
        """The artifact under another name. Its id stays, and with it what others say that they were made from.

        One rename of its folder, which gives the name, is all that counts: the manifest follows. Raises StoreError
        while a process works on it or with it, ArtifactError for a name that none may have and where it is not in this
        store.
        """
        folder = self._folder(artifact.kind)
        if artifact.path.resolve().parent.parent != folder.resolve():
            raise ArtifactError(f"{artifact.path} is not in the store {self.root}", "give the name of one that is")
        target = folder / manifests.check_name(name) / artifact.id
        key, what = f"{artifact.kind}-{artifact.id}", f"{artifact.kind} {artifact.ref}"
        with locks.hold(self.locks, key, what, wait=False, hint=_WAIT):
            if not artifact.path.is_dir():  # another process was first
                artifact = self.find(artifact.id, artifact.kind)
            for run in self.runs():
                if run.running and run.request and artifact.id in run.request.needs:
                    raise StoreError(f"{run.kind} {run.ref} is being made with {artifact.ref}", _WAIT)
            document = manifests.renamed(artifact.path, name)
            if target.exists() and not target.samefile(artifact.path):
                raise ArtifactError(f"{name}@{artifact.id} already exists", "remove one of the two with `rm`")
            files.sweep(artifact.path, manifests.FILE_NAME)
            with shielded(), files.disk_errors(artifact.path, "rename"):
                files.make_folder(target.parent)
                artifact.path.rename(target)
                files.sync(target.parent)
                files.write_bytes(target / manifests.FILE_NAME, document)
            files.remove_empty(artifact.path.parent)
        same = [each for each in files.subfolders(target.parent) if manifests.is_id(each.name)]
        if len(same) > 1:
            emit(Note(text=f"{len(same)} {artifact.kind}s are named {name}; the bare name means the newest of them"))
        return open_stored(target, artifact.kind)

    def _folder(self, kind: str) -> Path:
        return self.root / KINDS[kind].folder

    def _entries(self, kind: str | None = None) -> list_[Entry]:
        """Every folder whose place says that it is an artifact or an unfinished run; links are not followed."""
        return [
            Entry(each, folder.name, id, path)
            for each in (KINDS if kind is None else (kind,))
            for folder in files.subfolders(self._folder(each))
            for path in files.subfolders(folder)
            if manifests.is_name(folder.name) and manifests.is_id(id := path.name.removesuffix(PARTIAL).lstrip("."))
            if path.name in (id, partial_name(id))
        ]

    def _open(self, entry: Entry) -> Artifact | Damaged:
        try:
            return open_stored(entry.path, entry.kind)
        except (ArtifactError, StoreError) as e:
            return Damaged(**vars(entry), error=e)

    def _run(self, entry: Entry) -> Run:
        owner = locks.owner_of(self.locks, f"{entry.kind}-{entry.id}")
        latest = next(map(states.modified, states.files(entry.path)), None)
        return Run(
            **vars(entry),
            progress=states.progress(entry.path),
            owner=str(owner) if owner is not None and owner.alive else None,
            saved=None if latest is None else latest / 1e9,
            request=requests.read(entry.path),
        )

    def garbage(self) -> Iterator[Garbage]:
        """What killed removals left, and reports on sets that the store does not have.

        Such a set may lie elsewhere: sets are evaluated wherever they are.
        """
        for kind in KINDS:
            for trash in sorted(self._folder(kind).glob(f"*/.*{TRASH}")):
                key = f"{kind}-{trash.name.lstrip('.').partition('.')[0]}"
                yield Garbage(path=trash, kind="leftover", what=f"a removed {kind}", lock=(self.locks, key))
        sets = {entry.id for entry in self._entries("set")}
        for report in self.list("report"):
            if report.manifest.inputs.get("set") not in sets:
                what, lock = "a report on a set that is not in this store", (self.locks, f"report-{report.id}")
                yield Garbage(path=report.path, kind="orphan", what=what, lock=lock)

    def _sweep(self, kind: str) -> list_[Path]:
        """Finish removals that were killed; another process may do the same at the same time."""
        left = list_(self._folder(kind).glob(f"*/.*{TRASH}"))
        for trash in left:
            files.remove_tree(trash)
            files.remove_empty(trash.parent)
        return left
