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
from apmctl_core.models.registry import state_shapes
from apmctl_core.network.clients import is_offline
from apmctl_core.network.failures import offline
from apmctl_core.network.references import Reference
from apmctl_core.storage import files, locks

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
    with locks.hold(store.locks, f"pull-{remote.commit}", f"the pull of {reference}", wait=wait, emit=emit):
        artifact, reused, fetched = _Download(store, client, remote, reference).run(kind, wait)
    origin = Origin(remote.commit, artifact.kind, artifact.id)
    origins.record(store, reference.repo, (revision, remote.commit), origin)
    return Pulled(artifact=artifact, reused=reused, reference=reference, commit=remote.commit, downloaded_bytes=fetched)


class _Download:
    """One pull: a folder in the cache that is filled, then moved into a workspace of the store."""

    def __init__(self, store: Store, client: Client, remote: Remote, reference: Reference) -> None:
        self._store = store
        self._client = client
        self._remote = remote
        self._reference = reference
        self._folder = origins.folder(store) / "downloads" / remote.commit
        self._document = b""  # of the manifest, which is kept as it is
        self._fetched = 0

    def run(self, kind: str | None, wait: bool) -> tuple[Artifact, bool, int]:
        """The artifact, whether the store had it, and the bytes that were fetched."""
        files.make_folder(self._folder)
        try:
            manifest = self._manifest(kind)
            artifact = self._existing(manifest)
            reused = artifact is not None
            if artifact is None:
                self._fetch_all(manifest)
                artifact = self._publish(manifest, wait)
            files.remove_tree(self._folder)
            return artifact, reused, self._fetched
        except ArtifactError:
            files.remove_tree(self._folder)
            raise
        finally:
            files.remove_empty(self._folder, self._folder.parent)

    def _manifest(self, kind: str | None) -> Manifest:
        name, remote = manifests.FILE_NAME, self._remote
        if name not in remote.files:
            raise ArtifactError(
                f"{self._reference} holds no artifact: it has no {name}",
                "to distil a data set of the Hub, give it to `distill`",
            )
        if (remote.files[name].size or 0) > manifests.MAX_BYTES:
            raise ArtifactError(
                f"the {name} of {self._reference} is larger than {manifests.MAX_BYTES} bytes",
                _HINT,
            )
        path = self._client.download(remote, name, self._folder)
        self._document = files.read_bounded(path, manifests.MAX_BYTES)
        self._fetched += len(self._document)
        manifest = manifests.loads(self._document, f"the {name} of {self._reference}")
        if manifest.kind != _KINDS[remote.type] or kind not in (None, manifest.kind):
            raise ArtifactError(
                f"{self._reference} holds a {manifest.kind}, not a {kind or _KINDS[remote.type]}",
                f"give the {kind or _KINDS[remote.type]} to use",
            )
        return manifest

    def _existing(self, manifest: Manifest) -> Artifact | None:
        artifact = self._store.get(manifest.kind, manifest.id)
        if artifact is not None and _content(artifact.manifest) != _content(manifest):
            raise MismatchError(
                f"the store has {artifact.ref} with other values than {self._reference}: made on another machine",
                "remove it first with `rm`, or pull into another `store`",
            )
        return artifact

    def _fetch_all(self, manifest: Manifest) -> None:
        """Fetch what is missing; each file is checked when it arrives."""
        for name, entry in manifest.files.items():
            self._expect(name, entry)
        total = sum(entry.size for entry in manifest.files.values())
        kept = [name for name, entry in manifest.files.items() if self._has(name, entry)]
        needed = total - sum(manifest.files[name].size for name in kept)
        files.require_space(self._store.root, needed)
        for done, (name, entry) in enumerate(sorted(manifest.files.items())):
            self._progress(done, len(manifest.files))
            if name not in kept:
                self._client.download(self._remote, name, self._folder)
                self._fetched += entry.size
                if not self._has(name, entry):
                    raise ArtifactError(
                        f"{name} of {self._reference} is not the file that its manifest says: its sha256 differs",
                        _HINT,
                    )
        self._progress(len(manifest.files), len(manifest.files))

    def _expect(self, name: str, entry: FileEntry) -> None:
        """Refuse a file that the repository's own listing contradicts, before fetching it."""
        listed = self._remote.files.get(name)
        if listed is None:
            raise ArtifactError(
                f"{self._reference} lacks {name}, which its manifest lists", "ask its owner to push it again"
            )
        if listed.size not in (None, entry.size):
            raise ArtifactError(
                f"{name} of {self._reference} has {listed.size} bytes, not {entry.size} as its manifest says", _HINT
            )

    def _has(self, name: str, entry: FileEntry) -> bool:
        path = self._folder / name
        return files.regular_size(path) == entry.size and files.sha256_of(path) == entry.sha256

    def _progress(self, done: int, total: int) -> None:
        metrics = {"fetched_bytes": float(self._fetched)}
        self._client.emit(Progress(stage="download", done=done, total=total, unit="file", metrics=metrics))

    def _publish(self, manifest: Manifest, wait: bool) -> Artifact:
        files.remove_tree(self._folder / ".cache")  # what the client records beside its downloads
        files.remove_tree(self._folder / manifests.FILE_NAME)
        require_sound(Artifact(self._folder, manifest), state_shapes)
        with self._store.workspace(
            manifest.kind, manifest.name, manifest.id, wait=wait, emit=self._client.emit
        ) as work:
            if work.existing is not None:
                return work.existing
            for name in manifest.files:
                target = work.path / name
                with files.disk_errors(target):
                    _move(self._folder / name, target)
            return work.publish(manifest, self._document)


def _move(source: Path, target: Path) -> None:
    """Rename an ordinary file; a link is refused, so that its target stays where it is."""
    if files.regular_size(source) is None:
        raise ArtifactError(f"{source} is not an ordinary file", files.DAMAGED_HINT)
    source.replace(target)


def _content(manifest: Manifest) -> dict[str, FileEntry]:
    return {name: entry for name, entry in manifest.files.items() if name not in _VARYING}
