"""The Hub through its own client: few calls, each bounded in time, with retries that are said and errors of ours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from apmctl_core import __version__
from apmctl_core.errors import ArtifactError, NetworkError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.hub.failures import LOGIN, broken_off, missing, transient, translate
from apmctl_core.network.clients import bounded, listening, shown

T = TypeVar("T")

MAIN = "main"
_WAITS_S = (1.0, 2.0)
_TIMEOUT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """A file of a repository: its size if that is known, and the digests that the Hub has of it."""

    size: int | None
    blob: str | None = None  # sha1 as git takes it
    sha256: str | None = None  # of large files only


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository as it is at one commit; `type` is "dataset" or "model"."""

    repo: str
    type: str
    commit: str
    private: bool
    license: str | None = None  # as its card has it
    files: dict[str, File] = field(default_factory=dict)


def is_offline() -> bool:
    """Whether the user has told the Hub's client to stay off the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """The address of the Hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


class Client:
    """One user's way to the Hub; credentials are the client's own and are never looked at, save whether they exist."""

    def __init__(self, emit: Emit = silent) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi(library_name="apmctl", library_version=__version__)
        self.emit = emit

    def call(self, repo: str, work: Callable[[], T], again: Callable[[BaseException], bool] | None = transient) -> T:
        """What `work` gives; tried twice more where `again` says that it may help.

        Raises what `failures.translate` makes of an error of the client.
        """
        for wait in (*_WAITS_S, None):
            try:
                with listening(self.emit), bounded():
                    return work()
            except Exception as error:  # the client's, its HTTP backends', the file system's
                failure = translate(error, repo)
                if wait is None or again is None or not again(error):
                    raise failure from error
                text = f"Hub: {shown(error)}; trying again in {wait:.0f} s"
                self.emit(Note(text=text, level="warning"))
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    # --- looking

    def remote(self, repo: str, types: Sequence[str], revision: str | None = None) -> Remote:
        """A repository of the first of `types` that exists, at a branch, a tag or a commit.

        Raises NetworkError where there is none, or no such revision.
        """
        found = [remote for type in types if (remote := self.look(repo, type, revision)) is not None]
        if not found:
            raise missing(repo, types[0] if len(types) == 1 else None)
        return next((remote for remote in found if "manifest.json" in remote.files), found[0])

    def look(self, repo: str, type: str, revision: str | None = None) -> Remote | None:
        """A repository at a branch, a tag or a commit; None where there is none, or none for us.

        Raises NetworkError where it has no such revision, or is gated.
        """
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

        def work() -> Any:
            try:
                return self.api.repo_info(
                    repo, repo_type=type, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
                )
            except GatedRepoError:
                raise
            except (RepositoryNotFoundError, EntryNotFoundError):
                return None  # mirrors do not always say that it is the repository that they lack

        info = self.call(repo, work)
        return None if info is None else _remote(repo, type, info)

    def tree(self, remote: Remote) -> dict[str, File]:
        """All files of a repository at its commit, with their digests."""

        def work() -> dict[str, File]:
            listed = self.api.list_repo_tree(
                remote.repo, repo_type=remote.type, revision=remote.commit, recursive=True, expand=False
            )
            files: list[Any] = [entry for entry in listed if hasattr(entry, "blob_id")]
            return {f.path: File(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in files}

        return self.call(remote.repo, work)

    def refs(self, remote: Remote) -> tuple[dict[str, str], dict[str, str]]:
        """Branches and tags of a repository, each with its commit."""
        found = self.call(remote.repo, lambda: self.api.list_repo_refs(remote.repo, repo_type=remote.type))
        branches = {ref.name: ref.target_commit for ref in found.branches}
        return branches, {ref.name: ref.target_commit for ref in found.tags}

    def require_writer(self, repo: str) -> None:
        """Ask the Hub who we are, before anything long is begun.

        Raises NetworkError without a token, with one that it does not know, or with one that may only read.
        """
        from huggingface_hub import get_token

        if is_offline():
            raise NetworkError(f"{repo} cannot be written to in offline mode", "unset HF_HUB_OFFLINE")
        if not get_token():
            raise NetworkError(f"pushing to {repo} needs a token, and there is none", LOGIN)
        who = self.call(repo, self.api.whoami)
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise NetworkError(f"the token may only read, {repo} must be written to", "make a token that may write")

    # --- fetching

    def download(self, remote: Remote, name: str, folder: Path) -> Path:
        """Fetch one file into a folder, where it appears when it is whole. Its content is not checked."""

        def work() -> str:
            return self.api.hf_hub_download(
                remote.repo, name, repo_type=remote.type, revision=remote.commit, local_dir=folder
            )

        return Path(self.call(remote.repo, work, broken_off))


def _remote(repo: str, type: str, info: Any) -> Remote:
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise ArtifactError(f"the Hub names no commit of {repo}", "is HF_ENDPOINT the address of a Hub?")
    files = {}
    for sibling in info.siblings or ():
        lfs = getattr(sibling, "lfs", None)
        files[sibling.rfilename] = File(sibling.size, sibling.blob_id, lfs.sha256 if lfs else None)
    license = getattr(getattr(info, "card_data", None), "license", None)
    return Remote(
        repo=repo,
        type=type,
        commit=commit,
        private=bool(info.private),
        license=license if isinstance(license, str) else None,
        files=files,
    )
