"""The Hub through its own client: few calls, each bounded in time, with visible retries and errors of ours."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from apmctl_core.artifacts.manifest import FILE_NAME
from apmctl_core.errors import ApmError, ArtifactError, NetworkError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.network import clients
from apmctl_core.network.bounds import expecting
from apmctl_core.network.clients import LOGIN, is_offline, missing, shown, transient
from apmctl_core.storage import files
from apmctl_core.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

T = TypeVar("T")
Again = Callable[[BaseException], bool] | None  # whether a failed request may be tried once more

MAIN = "main"
_LIBRARY: dict[str, Any] = {"library_name": "apmctl", "library_version": __version__}
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

        self.api = HfApi(**_LIBRARY)
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

    def read(self, remote: Remote, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes. Raises ArtifactError where it is missing, NetworkError."""

        def work() -> bytes:
            with _opened(remote, name, limit) as answer:
                return bytes(answer.read())

        return self.call(remote.repo, work)

    def download(self, remote: Remote, name: str, path: Path, size: int) -> None:
        """Fetch a file of `size` bytes to `path`, where it appears when it is complete. Its content is not checked.

        What has arrived when a connection breaks is kept beside it, for the next attempt or call. Raises ArtifactError
        where the file is missing, NetworkError, StoreError.
        """
        partial = path.with_name(f".{path.name}{files.TEMPORARY}")

        def work() -> None:
            begun = files.regular_size(partial)
            if begun is None or begun > size:  # nothing is written through a link
                files.remove_tree(partial)
            try:
                with partial.open("ab") as file:
                    if file.tell() < size:
                        _append(remote, name, file, size)
            except ApmError:  # not what it should be
                files.remove_tree(partial)
                raise
            partial.replace(path)

        self.call(remote.repo, work)


def _append(remote: Remote, name: str, file: BinaryIO, size: int) -> None:
    """Fetch the rest of a file. Raises ConnectionError for an answer that is too short."""
    with _opened(remote, name, size, file.tell()) as answer:
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:  # a server that knows no ranges
            file.seek(0)
            file.truncate()
        for piece in answer.iter_bytes():
            file.write(piece)
    if file.tell() < size:
        raise ConnectionError(f"{name} ends after {file.tell():,} of {size:,} bytes")


@contextlib.contextmanager
def _opened(remote: Remote, name: str, size: int, begun: int = 0) -> Iterator[Any]:
    """The answer with a file of at most `size` bytes, from byte `begun` on if the server can do that.

    The Hub's client has `hf_hub_download`, but that reads as much as a server sends, and starts again from nothing.
    """
    from huggingface_hub import get_session, hf_hub_url, utils
    from huggingface_hub.errors import EntryNotFoundError

    public: Any = utils  # whose documented functions it does not declare
    url = hf_hub_url(remote.repo, name, repo_type=remote.type, revision=remote.commit)
    headers = public.build_hf_headers(**_LIBRARY) | ({"Range": f"bytes={begun}-"} if begun else {})
    how: dict[str, Any] = {"headers": headers, "extensions": expecting(size, begun), "follow_redirects": True}
    with get_session().stream("GET", url, **how) as answer:
        try:
            public.hf_raise_for_status(answer)
        except EntryNotFoundError as e:
            raise ArtifactError(f"{remote.repo} lacks {name}", "ask its owner to push it again") from e
        yield answer


def _other(error: BaseException, repo: str) -> ApmError:
    """The error for what is neither the Hub's failure nor the network's."""
    causes = list(clients.chain(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno is not None:
            return files.store_error(cause, Path(str(cause.filename or "a file")), "read or write")
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
