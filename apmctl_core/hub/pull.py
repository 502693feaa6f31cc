"""From the Hub into the store: everything is checked before the artifact appears, and what is refused leaves nothing.

A download stays in the store's cache until it is complete; an interrupted one is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.manifest import FileEntry, Manifest
from apmctl_core.artifacts.store import Store
from apmctl_core.artifacts.verify import require_sound
from apmctl_core.errors import ArtifactError, MismatchError
from apmctl_core.events import Emit, Note, Progress, silent
from apmctl_core.hub import origins
from apmctl_core.hub.client import MAIN, Client, Remote
from apmctl_core.hub.origins import Origin
from apmctl_core.hub.staging import staged
from apmctl_core.models import state_shapes
from apmctl_core.network.clients import is_offline, offline
from apmctl_core.network.references import Reference
from apmctl_core.storage import files

TYPES = {"set": "dataset", "pool": "model"}
_KINDS = {type: kind for kind, type in TYPES.items()}
_HINT = "do not use it; tell its owner"
_VARYING = ("events.jsonl", "preview.png")  # the same recipe gives the same artifact with another history


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """An artifact of the store, and where on the Hub it is from; `downloaded_bytes` are those of this call."""

    artifact: Artifact
    reused: bool
    reference: Reference
    commit: str
    downloaded_bytes: int


def pull(
    store: Store, reference: Reference, *, kind: str | None = None, wait: bool = True, emit: Emit = silent
) -> Pulled:
    """Bring the artifact of a repository into the store; one that the store has is not fetched again.

    Raises NetworkError for the network, the credentials, or a missing repository; ArtifactError for anything but a
    sound artifact of that kind; MismatchError where the store has another one of the same id; StoreError.
    """
    revision = reference.revision or MAIN
    known = origins.lookup(store, reference.repo, revision, kind)
    if known is not None and (is_offline() or known[1].commit == revision):
        if is_offline():
            emit(Note(text=f"offline: using {reference} as it was last pulled"))
        return Pulled(artifact=known[0], reused=True, reference=reference, commit=known[1].commit, downloaded_bytes=0)
    if is_offline():
        raise offline(str(reference))
    client = Client(emit)
    remote = client.remote(reference.repo, [TYPES[kind]] if kind in TYPES else list(_KINDS), reference.revision)
    with staged(store, "pull", reference.repo, remote.commit, wait=wait, emit=emit) as folder:
        download = _Download(store, client, remote, reference, kind or _KINDS[remote.type], folder)
        artifact, reused = download.run(wait)
    origin = Origin(remote.commit, artifact.kind, artifact.id)
    origins.record(store, reference.repo, (revision, remote.commit), origin)
    fetched = download.fetched
    return Pulled(artifact=artifact, reused=reused, reference=reference, commit=remote.commit, downloaded_bytes=fetched)


@dataclass
class _Download:
    """One pull of a `kind`: a folder in the cache that is filled, then moved into a workspace of the store."""

    store: Store
    client: Client
    remote: Remote
    reference: Reference
    kind: str
    folder: Path
    document: bytes = b""  # of the manifest, which is kept as it is
    fetched: int = 0

    def run(self, wait: bool) -> tuple[Artifact, bool]:
        """The artifact, and whether the store had it."""
        try:
            manifest = self._manifest()
            existing = self._existing(manifest)
            if existing is None:
                self._fetch_all(manifest)
            artifact = existing or self._publish(manifest, wait)
        except ArtifactError:
            files.remove_tree(self.folder)
            raise
        files.remove_tree(self.folder)
        return artifact, existing is not None

    def _manifest(self) -> Manifest:
        name, remote = manifests.FILE_NAME, self.remote
        if name not in remote.files:
            problem = f"{self.reference} holds no artifact: it has no {name}"
            raise ArtifactError(problem, "to distil a data set of the Hub, give it to `distill`")
        if (remote.files[name].size or 0) > manifests.MAX_BYTES:
            raise ArtifactError(f"the {name} of {self.reference} is larger than {manifests.MAX_BYTES} bytes", _HINT)
        self.document = self.client.read(remote, name, remote.files[name].size or manifests.MAX_BYTES)
        self.fetched += len(self.document)
        manifest = manifests.loads(self.document, f"the {name} of {self.reference}")
        if not manifest.kind == self.kind == _KINDS[remote.type]:
            problem = f"{self.reference} holds a {manifest.kind}, not a {self.kind}"
            raise ArtifactError(problem, f"give the {self.kind} to use")
        return manifest

    def _existing(self, manifest: Manifest) -> Artifact | None:
        artifact = self.store.get(manifest.kind, manifest.id)
        if artifact is not None and _content(artifact.manifest) != _content(manifest):
            raise MismatchError(
                f"the store has {artifact.ref} with other values than {self.reference}: made on another machine",
                "remove it first with `rm`, or pull into another `store`",
            )
        return artifact

    def _fetch_all(self, manifest: Manifest) -> None:
        """Fetch what is missing; each file is checked when it arrives."""
        entries = manifest.files
        for name, entry in entries.items():
            self._expect(name, entry)
        missing = [name for name, entry in entries.items() if not self._has(name, entry)]
        files.require_space(self.store.root, sum(entries[name].size for name in missing))
        for done, (name, entry) in enumerate(sorted(entries.items())):
            self._progress(done, len(entries))
            if name in missing:
                self.client.download(self.remote, name, self.folder / name, entry.size)
                self.fetched += entry.size
                if not self._has(name, entry):
                    problem = f"{name} of {self.reference} is not the file that its manifest says: its sha256 differs"
                    raise ArtifactError(problem, _HINT)
        self._progress(len(entries), len(entries))

    def _expect(self, name: str, entry: FileEntry) -> None:
        """Refuse a file that the repository's own listing contradicts, before fetching it."""
        listed = self.remote.files.get(name)
        if listed is None:
            problem = f"{self.reference} lacks {name}, which its manifest lists"
            raise ArtifactError(problem, "ask its owner to push it again")
        if listed.size not in (None, entry.size):
            problem = f"{name} of {self.reference} has {listed.size} bytes, not {entry.size} as its manifest says"
            raise ArtifactError(problem, _HINT)

    def _has(self, name: str, entry: FileEntry) -> bool:
        path = self.folder / name
        return files.regular_size(path) == entry.size and files.sha256_of(path) == entry.sha256

    def _progress(self, done: int, total: int) -> None:
        metrics = {"fetched_bytes": float(self.fetched)}
        self.client.emit(Progress(stage="download", done=done, total=total, unit="file", metrics=metrics))

    def _publish(self, manifest: Manifest, wait: bool) -> Artifact:
        require_sound(Artifact(self.folder, manifest), state_shapes)
        emit = self.client.emit
        with self.store.workspace(manifest.kind, manifest.name, manifest.id, wait=wait, emit=emit) as work:
            if work.existing is not None:
                return work.existing
            for name in manifest.files:
                with files.disk_errors(work.path / name):
                    (self.folder / name).replace(work.path / name)
            return work.publish(manifest, self.document)


def _content(manifest: Manifest) -> dict[str, FileEntry]:
    return {name: entry for name, entry in manifest.files.items() if name not in _VARYING}
