"""From the store to the Hub: the files of an artifact, a card, and for sets the pictures as parquet; in one commit.

The branch does not change before the commit, which is refused if another commit came first. Content that the Hub has
is not sent again.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
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
from apmctl_core.hub.changes import Change, compare
from apmctl_core.hub.client import MAIN, Client, File, Remote, endpoint
from apmctl_core.hub.origins import Origin
from apmctl_core.hub.publication import Options, Pushed
from apmctl_core.hub.pull import TYPES
from apmctl_core.models.registry import state_shapes
from apmctl_core.network.references import check_repo
from apmctl_core.storage import files

CARD = "README.md"
_OTHERS = (".gitattributes", CARD, ".gitignore", "LICENSE")  # what a new repository may have


def push(store: Store, artifact: Artifact, repo: str, options: Options | None = None, *, emit: Emit = silent) -> Pushed:
    """Publish a set (to a data set repository) or a pool (to a model repository), which is created if need be.

    Raises ArtifactError for an artifact that is not sound, MismatchError for a report or a repository that holds
    something else, NetworkError for the network and the credentials; the branch is then unchanged.
    """
    options = options or Options()
    check_repo(repo)
    _check_kind(artifact.kind, artifact.ref)
    client = Client(emit)
    client.require_writer(repo)
    require_sound(artifact, state_shapes, strays=False)
    with files.disk_errors(store.root), _staging(store) as folder:
        return _Push(store, client, artifact, repo, options).run(Path(folder))


def preflight(kind: str, repo: str, emit: Emit = silent) -> None:
    """Raise what `push` would raise before it compares files: for use before hours of work that end in a push."""
    check_repo(repo)
    _check_kind(kind, kind)
    Client(emit).require_writer(repo)


def _staging(store: Store) -> tempfile.TemporaryDirectory[str]:
    parent = origins.folder(store)
    files.make_folder(parent)
    return tempfile.TemporaryDirectory(prefix="push-", dir=parent)


def _check_kind(kind: str, what: str) -> None:
    if kind not in TYPES:
        raise MismatchError(f"{what} is neither a set nor a pool", "push the set: its card shows its reports")


class _Push:
    def __init__(self, store: Store, client: Client, artifact: Artifact, repo: str, options: Options) -> None:
        self._store = store
        self._client = client
        self._call: Callable[..., Any] = functools.partial(client.call, repo)
        self._artifact = artifact
        self._repo = repo
        self._options = options
        self._type = TYPES[artifact.kind]
        self._branch = options.revision or MAIN
        self._base_branch = MAIN

    def run(self, folder: Path) -> Pushed:
        """Compare, send, commit, tag."""
        remote = self._repository()
        branches, tags = self._client.refs(remote)
        self._base_branch = self._branch if self._branch in branches else MAIN
        base = self._base(remote, branches)
        theirs = self._client.tree(base)
        self._require_ours(theirs)
        ours = self._ours(folder, self._options.license or remote.license)
        change = compare(ours, theirs)
        self._check_tag(tags, base, change)
        commit, request = base.commit, None
        if change.add or change.delete:
            commit, request = self._commit(base, change)
            if request is None:
                self._check(base, commit, ours)
        elif self._branch not in branches and not self._options.create_pr:
            self._make_branch(base)
        self._tag(tags, commit)
        if request is None:
            origin = Origin(commit, self._artifact.kind, self._artifact.id)
            origins.record(self._store, self._repo, (self._branch, commit), origin)
        return self._pushed(change, commit, request)

    # --- our files

    def _ours(self, folder: Path, license: str | None) -> dict[str, Path]:
        """All files that the repository is to have of us, by their names in it."""
        artifact = self._artifact
        ours = {name: artifact.path / name for name in (manifests.FILE_NAME, *artifact.manifest.files)}
        images = 0
        if artifact.kind == "set":
            images = check_structure(artifact)
            files.require_space(self._store.root, artifact.manifest.files[SET_FILE].size)
            self._client.emit(Note(text=f"writing {images} images as parquet"))
            ours |= {name: folder / name for name in parquet.write(artifact, folder)}
        text = card(artifact, self._repo, reported(self._store, artifact), license, images)
        files.write_bytes(folder / CARD, text.encode())
        return ours | {CARD: folder / CARD}

    # --- the repository

    def _repository(self) -> Remote:
        """The repository's main branch; a missing repository is created."""
        repo, type = self._repo, self._type
        remote = self._client.look(repo, type)
        if remote is None:
            self._client.emit(Note(text=f"creating the repository {repo}"))
            private = True if self._options.private else None
            self._call(lambda: self._client.api.create_repo(repo, repo_type=type, private=private, exist_ok=True))
            remote = self._client.remote(repo, [type])
        if self._options.private and not remote.private:
            raise ConfigError(f"{repo} already exists and is public", "leave `private` out, or make it private")
        return remote

    def _base(self, remote: Remote, branches: Mapping[str, str]) -> Remote:
        """The commit to build on: that of the branch, or of the main one for a new branch."""
        if self._branch not in branches:
            return remote
        return dataclasses.replace(remote, commit=branches[self._branch], files={})

    def _require_ours(self, theirs: Mapping[str, File]) -> None:
        foreign = sorted(path for path in theirs if path not in _OTHERS)
        if foreign and manifests.FILE_NAME not in theirs:
            raise MismatchError(
                f"{self._repo} holds something that is not an artifact ({foreign[0]})", "push to another repository"
            )

    def _check_tag(self, tags: Mapping[str, str], base: Remote, change: Change) -> None:
        tag = self._options.tag
        if tag is not None and tag in tags and (change.add or change.delete or tags[tag] != base.commit):
            raise ConfigError(f"{self._repo} already has a tag {tag}, of another commit", "choose another `tag`")

    # --- the change

    def _commit(self, base: Remote, change: Change) -> tuple[str, str | None]:
        """Send what is missing, then change the branch in one commit. Returns the commit, and the pull request."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        additions = [CommitOperationAdd(name, str(path)) for name, path in sorted(change.add.items())]
        for done, addition in enumerate(additions):
            self._progress(change, done)
            self._send(addition)
        self._progress(change, len(additions))
        if not self._options.create_pr:
            self._make_branch(base)
        operations: list[Any] = [*additions, *(CommitOperationDelete(name) for name in change.delete)]
        message = self._options.message or f"Push {self._artifact.kind} {self._artifact.ref} with apmctl"
        info = self._call(
            lambda: self._client.api.create_commit(
                self._repo,
                operations,
                commit_message=message,
                repo_type=self._type,
                revision=self._branch,
                create_pr=self._options.create_pr,
                parent_commit=base.commit,
            ),
            None,  # a commit whose answer was lost may exist: the next push sees it
        )
        return str(info.oid), info.pr_url

    def _check(self, base: Remote, commit: str, ours: Mapping[str, Path]) -> None:
        """Check that the commit has everything: the Hub leaves out what a repository's .gitignore names."""
        theirs = self._client.tree(dataclasses.replace(base, commit=commit))
        lost = [name for name, path in ours.items() if name not in theirs or theirs[name].size != path.stat().st_size]
        if lost:
            raise MismatchError(
                f"{self._repo} has not taken {lost[0]}, so nothing can be pulled from it",
                "remove its .gitignore and push again",
            )

    def _send(self, addition: Any) -> None:
        """Send one file to the Hub, where it is in no branch yet; small ones are sent with the commit."""
        self._call(
            lambda: self._client.api.preupload_lfs_files(
                self._repo,
                [addition],
                repo_type=self._type,
                revision=self._base_branch,
                create_pr=self._options.create_pr,
                free_memory=False,
            ),
            None,  # the client itself retries
        )

    def _make_branch(self, base: Remote) -> None:
        if self._branch != MAIN:
            self._call(
                lambda: self._client.api.create_branch(
                    self._repo, branch=self._branch, revision=base.commit, repo_type=self._type, exist_ok=True
                )
            )

    def _tag(self, tags: Mapping[str, str], commit: str) -> None:
        tag = self._options.tag
        if tag is not None and tag not in tags:
            self._call(
                lambda: self._client.api.create_tag(
                    self._repo, tag=tag, revision=commit, repo_type=self._type, exist_ok=True
                )
            )

    def _progress(self, change: Change, done: int) -> None:
        sent = sum(change.sizes[name] for name in sorted(change.add)[:done])
        self._client.emit(
            Progress(stage="upload", done=done, total=len(change.add), unit="file", metrics={"sent_bytes": float(sent)})
        )

    def _pushed(self, change: Change, commit: str, request: str | None) -> Pushed:
        prefix = "datasets/" if self._type == "dataset" else ""
        return Pushed(
            repo=self._repo,
            type=self._type,
            revision=self._branch,
            commit=commit,
            url=f"{endpoint()}/{prefix}{self._repo}",
            uploaded=tuple(sorted(change.add)),
            deleted=change.delete,
            unchanged=change.unchanged,
            sent_bytes=sum(change.sizes[name] for name in change.add),
            tag=self._options.tag,
            pull_request=request,
        )


def reported(store: Store, artifact: Artifact) -> list[ReportRow]:
    """The rows of all reports on a set, the oldest first; none for a pool. Raises ArtifactError for a damaged one."""
    if artifact.kind != "set":
        return []
    reports = [report for report in store.list("report") if report.manifest.inputs.get("set") == artifact.id]
    reports.sort(key=lambda report: (str(report.manifest.environment.get("created")), report.id))
    return [row for report in reports for row in load_report(report).rows]
