"""From the store to the Hub: the files of an artifact, a card, and for sets the pictures as parquet; in one commit.

The branch does not change before the commit, which is refused if another commit came first. Content that the Hub has
is not sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.kinds.reports import ReportRow, load_report
from apmctl_core.artifacts.kinds.sets import FILE as SET_FILE
from apmctl_core.artifacts.kinds.sets import check_structure
from apmctl_core.artifacts.store import Store
from apmctl_core.artifacts.verify import require_sound
from apmctl_core.errors import ConfigError, MismatchError
from apmctl_core.events import Emit, Note, Progress, silent
from apmctl_core.formats import set_parquet as parquet
from apmctl_core.hub import origins
from apmctl_core.hub.card import card
from apmctl_core.hub.client import MAIN, Again, Client, Remote
from apmctl_core.hub.origins import Origin
from apmctl_core.hub.pull import TYPES
from apmctl_core.hub.staging import staged
from apmctl_core.models import state_shapes
from apmctl_core.network.clients import transient
from apmctl_core.network.references import check_repo, check_revision
from apmctl_core.storage import files

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

CARD = "README.md"
_OTHERS = (".gitattributes", CARD, ".gitignore", "LICENSE")  # what a new repository may have


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to push; None stands for the default."""

    private: bool = False
    revision: str | None = None
    tag: str | None = None
    message: str | None = None
    create_pr: bool = False
    license: str | None = None

    def __post_init__(self) -> None:
        check_revision(self.revision)
        check_revision(self.tag)
        if self.create_pr and (self.tag or self.revision):
            problem = "`create_pr` cannot be combined with `tag` or `revision`"
            raise ConfigError(problem, "a pull request goes to the main branch; tag it when it is merged")


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What is on the Hub now: `uploaded` and `deleted` in this commit; `unchanged` counts files that were kept."""

    repo: str
    type: str
    revision: str
    commit: str
    url: str
    uploaded: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: int = 0
    sent_bytes: int = 0
    tag: str | None = None
    pull_request: str | None = None


def push(store: Store, artifact: Artifact, repo: str, options: Options | None = None, *, emit: Emit = silent) -> Pushed:
    """Publish a set (to a data set repository) or a pool (to a model repository), which is created if need be.

    Raises ArtifactError for an artifact that is not sound, MismatchError for a report or a repository that holds
    something else, NetworkError for the network and the credentials; the branch is then unchanged.
    """
    client = preflight(artifact.kind, repo, emit)
    require_sound(artifact, state_shapes, strays=False)
    with files.disk_errors(store.root), staged(store, "push", repo, artifact.id, emit=emit) as folder:
        try:
            return _Push(store, client, artifact, repo, options or Options()).run(folder)
        finally:
            files.remove_tree(folder)


def preflight(kind: str, repo: str, emit: Emit = silent) -> Client:
    """Raise what `push` would raise before it compares files: for use before hours of work that end in a push."""
    check_repo(repo)
    if kind not in TYPES:
        raise MismatchError(f"a {kind} is neither a set nor a pool", "push the set: its card shows its reports")
    client = Client(emit)
    client.require_writer(repo)
    return client


@dataclass(frozen=True)
class _Push:
    store: Store
    client: Client
    artifact: Artifact
    repo: str
    options: Options

    @property
    def type(self) -> str:
        return TYPES[self.artifact.kind]

    @property
    def branch(self) -> str:
        return self.options.revision or MAIN

    def run(self, folder: Path) -> Pushed:
        """Compare, send, commit, tag."""
        main = self._repository()
        refs = self._call("list_repo_refs")
        branches, tags = ({ref.name: str(ref.target_commit) for ref in group} for group in (refs.branches, refs.tags))
        # A new branch begins at the main one.
        first = branches.get(self.branch, main.commit)
        base = main if first == main.commit else self._at(first)
        self._require_ours(base)
        ours = self._ours(folder, self.options.license or main.license)
        add, delete = _compare(ours, base.files)
        changes, tag = bool(add or delete), self.options.tag
        if tag in tags and (changes or tags[tag] != base.commit):
            raise ConfigError(f"{self.repo} already has a tag {tag}, of another commit", "choose another `tag`")
        commit, request = base.commit, None
        if changes:
            commit, request = self._commit(base, add, delete, self.branch if self.branch in branches else MAIN)
            if request is None:
                self._check(commit, ours)
        elif self.branch not in branches:
            self._make_branch(base)
        if tag is not None and tag not in tags:
            self._call("create_tag", tag=tag, revision=commit, exist_ok=True)
        if request is None:
            origin = Origin(commit, self.artifact.kind, self.artifact.id)
            origins.record(self.store, self.repo, (self.branch, commit), origin)
        prefix = "datasets/" if self.type == "dataset" else ""
        return Pushed(
            repo=self.repo,
            type=self.type,
            revision=self.branch,
            commit=commit,
            url=f"{self.client.api.endpoint}/{prefix}{self.repo}",
            uploaded=tuple(add),
            deleted=delete,
            unchanged=len(ours) - len(add),
            sent_bytes=_size(add.values()),
            tag=self.options.tag,
            pull_request=request,
        )

    def _call(self, method: str, *args: Any, again: Again = transient, **options: Any) -> Any:
        """The result of a method of the Hub's client on this repository."""
        work = partial(getattr(self.client.api, method), self.repo, *args, repo_type=self.type, **options)
        return self.client.call(self.repo, work, again)

    def _ours(self, folder: Path, license: str | None) -> dict[str, Path]:
        """All files that the repository is to have of us, by their names in it."""
        artifact = self.artifact
        ours = {name: artifact.path / name for name in (manifests.FILE_NAME, *artifact.manifest.files)}
        images = 0
        if artifact.kind == "set":
            images = check_structure(artifact)
            files.require_space(self.store.root, artifact.manifest.files[SET_FILE].size)
            self.client.emit(Note(text=f"writing {images} images as parquet"))
            ours |= {name: folder / name for name in parquet.write(artifact, folder)}
        text = card(artifact, self.repo, reported(self.store, artifact, self.client.emit), license, images)
        files.write_bytes(folder / CARD, text.encode())
        return ours | {CARD: folder / CARD}

    def _at(self, revision: str) -> Remote:
        return self.client.remote(self.repo, [self.type], revision)

    def _repository(self) -> Remote:
        """The repository's main branch; a missing repository is created."""
        repo, private = self.repo, self.options.private
        remote = self.client.look(repo, self.type)
        if remote is None:
            self.client.emit(Note(text=f"creating the repository {repo}"))
            self._call("create_repo", private=private or None, exist_ok=True)
            remote = self._at(MAIN)
        if private and not remote.private:
            raise ConfigError(f"{repo} already exists and is public", "leave `private` out, or make it private")
        return remote

    def _require_ours(self, base: Remote) -> None:
        foreign = sorted(base.files.keys() - set(_OTHERS))
        if foreign and manifests.FILE_NAME not in base.files:
            problem = f"{self.repo} holds something that is not an artifact ({foreign[0]})"
            raise MismatchError(problem, "push to another repository")

    def _commit(
        self, base: Remote, add: Mapping[str, Path], delete: Sequence[str], existing: str
    ) -> tuple[str, str | None]:
        """Send what is missing, then change the branch in one commit. Returns the commit, and the pull request.

        `existing` is the branch whose rules say how files are sent: they are in no branch yet.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        request, paths = self.options.create_pr, list(add.values())
        additions = [CommitOperationAdd(name, str(path)) for name, path in add.items()]
        for done, addition in enumerate(additions):
            self._progress(paths, done)
            sending = {"revision": existing, "create_pr": request, "free_memory": False}
            self._call("preupload_lfs_files", [addition], again=None, **sending)  # the client itself retries
        self._progress(paths, len(paths))
        if not request:
            self._make_branch(base)
        info = self._call(
            "create_commit",
            [*additions, *map(CommitOperationDelete, delete)],
            commit_message=self.options.message or f"Push {self.artifact.kind} {self.artifact.ref} with apmctl",
            revision=self.branch,
            create_pr=request,
            parent_commit=base.commit,
            again=None,  # a commit whose answer was lost may exist: the next push sees it
        )
        return str(info.oid), info.pr_url

    def _check(self, commit: str, ours: dict[str, Path]) -> None:
        """Check that the commit has everything: the Hub leaves out what a repository's .gitignore names."""
        theirs = self._at(commit).files
        for name, path in ours.items():
            if name not in theirs or theirs[name].size != path.stat().st_size:
                problem = f"{self.repo} has not taken {name}, so nothing can be pulled from it"
                raise MismatchError(problem, "remove its .gitignore and push again")

    def _make_branch(self, base: Remote) -> None:
        if self.branch != MAIN:
            self._call("create_branch", branch=self.branch, revision=base.commit, exist_ok=True)

    def _progress(self, paths: Sequence[Path], done: int) -> None:
        metrics = {"sent_bytes": float(_size(paths[:done]))}
        self.client.emit(Progress(stage="upload", done=done, total=len(paths), unit="file", metrics=metrics))


def reported(store: Store, artifact: Artifact, emit: Emit = silent) -> list[ReportRow]:
    """The rows of all reports on a set, the oldest first; none for a pool. A Note tells of reports that are damaged."""
    if artifact.kind != "set":
        return []
    sound, damaged = store.scan("report")
    for entry in damaged:
        emit(Note(text=f"skipped {entry.ref}: {entry.error.message}", level="warning"))
    reports = [report for report in sound if report.manifest.inputs.get("set") == artifact.id]
    reports.sort(key=lambda report: (str(report.manifest.environment.get("created")), report.id))
    return [row for report in reports for row in load_report(report).rows]


def _compare(ours: Mapping[str, Path], theirs: Mapping[str, RepoSibling]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Our files that are new or changed, and those of an earlier push to delete; files of other origin stay."""
    add = {name: path for name, path in sorted(ours.items()) if not _same(path, theirs.get(name))}
    known = [name for name in theirs if parquet.is_shard(name) or any(kind.has(name) for kind in KINDS.values())]
    return add, tuple(sorted(set(known) - ours.keys()))


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _same(path: Path, file: RepoSibling | None) -> bool:
    size = path.stat().st_size
    if file is None or file.size != size:
        return False
    if file.lfs is not None:
        return files.sha256_of(path) == file.lfs.sha256
    with files.open_regular(path) as content:  # the name that git gives a file's content
        begun = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        return hashlib.file_digest(content, lambda: begun).hexdigest() == file.blob_id
