"""Artifacts by what a user calls them, wherever they are: in the store, in a folder, or on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.store import Store
from apmctl_core.errors import ConfigError
from apmctl_core.events import Emit, Note, silent

PREFIX = "hf:"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")


@dataclass(frozen=True)
class Reference:
    """A repository on the Hub, and a branch, tag or commit of it; None is its main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse(text: str, revision: str | None = None) -> Reference:
    """The reference that `owner/name`, `hf:owner/name` or either with `@revision` means. Raises ConfigError."""
    repo, at, said = text.removeprefix(PREFIX).partition("@")
    if at and revision is not None:
        raise ConfigError(f"{text!r} and --revision name a revision each", "give one of them")
    return Reference(check_repo(repo), check_revision(said if at else revision))


def check_repo(repo: str) -> str:
    """`repo`, if it may be the name of a repository. Raises ConfigError."""
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith(".git"):
        raise ConfigError(f"{repo!r} cannot be a repository on the Hub", "write owner/name")
    return repo


def check_revision(revision: str | None) -> str | None:
    """`revision`, if a branch, tag or commit may have that name. Raises ConfigError."""
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise ConfigError(f"{revision!r} cannot be a revision", "write a branch, a tag or a commit")
    return revision


def on_hub(text: str) -> Reference | None:
    """The repository that `text` means, if it means one: `hf:...`, or `owner/name` where no such path is here."""
    if text.startswith(PREFIX):
        return parse(text)
    repo = text.partition("@")[0]
    if not _REPO.fullmatch(repo) or Path(text).exists() or Path(repo.split("/")[0]).exists():
        return None
    return parse(text)


def find(store: Store, text: str, kind: str | None = None, *, wait: bool = True, emit: Emit = silent) -> Artifact:
    """The artifact that a name, `name@id`, the start of an id, a path or a reference to the Hub means.

    What is on the Hub is pulled into the store. Raises what `Store.find` and `pull` raise.
    """
    reference = on_hub(text)
    if reference is None:
        return store.find(text, kind)
    from apmctl_core.hub.pull import pull

    if not text.startswith(PREFIX):
        emit(Note(text=f"there is no folder {text} here: taking it for {reference}"))
    return pull(store, reference, kind=kind, wait=wait, emit=emit).artifact
