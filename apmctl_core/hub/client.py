"""The Hub through its own client: few calls, each bounded in time, with visible retries and errors of ours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apmctl_core.artifacts.manifest import FILE_NAME
from apmctl_core.errors import ApmError, ArtifactError, NetworkError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.network import clients
from apmctl_core.network.clients import LOGIN, broken_off, is_offline, missing, shown, transient
from apmctl_core.storage.files import store_error
from apmctl_core.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

T = TypeVar("T")
Again = Callable[[BaseException], bool] | None  # whether a failed request may be tried once more

MAIN = "main"
_WAITS_S = (1.0, 2.0)
_TIMEOUT_S = 10.0
_NAMES = {"dataset": "data set repository", "model": "model repository"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository as it is at one commit; `type` is "dataset" or "model"."""

    repo: str
    type: str
    commit: str
    private: bool
    license: str | None  # as its card has it
    files: dict[str, RepoSibling]  # with the sizes and digests that the Hub has of them


class Client:
    """The Hub for one user; credentials are the client's own, and only their existence is ever checked."""

    def __init__(self, emit: Emit = silent) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi(library_name="apmctl", library_version=__version__)
        self.emit = emit

    def call(self, repo: str, work: Callable[[], T], again: Again = transient) -> T:
        """What `work` returns, with up to two retries where `again` says that they may help.

        Raises StoreError for the disk, else what `clients.translate` makes of an error of the client.
        """
        for wait in (*_WAITS_S, None):
            try:
                with clients.supervised(self.emit):
                    return work()
            except Exception as error:  # the client's, its HTTP backends', the file system's
                failure = clients.translate(error, f"repository {repo}") or _other(error, repo)
                if wait is None or again is None or not again(error):
                    raise failure from error
                self.emit(Note(text=f"Hub: {shown(error)}; retrying in {wait:.0f} s", level="warning"))
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def remote(self, repo: str, types: Sequence[str], revision: str | None = None) -> Remote:
        """A repository of the first of `types` that exists, at a branch, a tag or a commit.

        Raises NetworkError where there is none, or no such revision.
        """
        remotes = [remote for type in types if (remote := self.look(repo, type, revision)) is not None]
        if not remotes:
            raise missing(f"{_NAMES[types[0]]} {repo}" if len(types) == 1 else f"repository {repo}")
        return next((remote for remote in remotes if FILE_NAME in remote.files), remotes[0])

    def look(self, repo: str, type: str, revision: str | None = None) -> Remote | None:
        """A repository at a branch, a tag or a commit; None if there is none that we may see.

        Raises NetworkError if it has no such revision, or is gated.
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
                return None  # mirrors do not always say that the repository is what they lack

        info = self.call(repo, work)
        return None if info is None else _remote(repo, type, info)

    def require_writer(self, repo: str) -> None:
        """Check the credentials with the Hub, before anything that takes long.

        Raises NetworkError without a token, with an unknown one, or with one that may only read.
        """
        from huggingface_hub import get_token

        if is_offline():
            raise NetworkError(f"{repo} cannot be written to in offline mode", "unset HF_HUB_OFFLINE")
        if not get_token():
            raise NetworkError(f"pushing to {repo} needs a token", LOGIN)
        who = self.call(repo, self.api.whoami)
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise NetworkError(f"the token may only read, not write to {repo}", "create a token that may write")

    def download(self, remote: Remote, name: str, folder: Path) -> Path:
        """Fetch one file into a folder, where it appears when it is complete. Its content is not checked."""
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        def work() -> str:
            try:
                return self.api.hf_hub_download(
                    remote.repo, name, repo_type=remote.type, revision=remote.commit, local_dir=folder
                )
            except LocalEntryNotFoundError:  # its cause says more
                raise
            except EntryNotFoundError as e:
                raise ArtifactError(f"{remote.repo} lacks {name}", "ask its owner to push it again") from e

        return Path(self.call(remote.repo, work, broken_off))


def _other(error: BaseException, repo: str) -> ApmError:
    """The error for what is neither the Hub's failure nor the network's."""
    causes = list(clients.chain(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno is not None:
            return store_error(cause, Path(str(cause.filename or "a file")), "read or write")
    kind = type(causes[-1]).__name__
    return NetworkError(f"the Hub's client failed for {repo} ({kind}): {shown(causes[-1])}", "try again later")


def _remote(repo: str, type: str, info: Any) -> Remote:
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise ArtifactError(f"the Hub names no commit of {repo}", "is HF_ENDPOINT the address of a Hub?")
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    license = getattr(info.card_data, "license", None)
    license = license if isinstance(license, str) else None
    return Remote(repo=repo, type=type, commit=commit, private=bool(info.private), license=license, files=files)
