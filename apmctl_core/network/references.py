"""References to repositories on the Hugging Face Hub: `hf:owner/name[@revision]`, for data and artifacts alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apmctl_core.errors import ConfigError

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
    repo, at, written = text.removeprefix(PREFIX).partition("@")
    if at and revision is not None:
        raise ConfigError(f"{text!r} and `revision` name a revision each", "give one of them")
    return Reference(check_repo(repo), check_revision(written if at else revision))


def is_repo(text: str) -> bool:
    """Whether `text` has the form owner/name."""
    return _REPO.fullmatch(text) is not None


def check_repo(repo: str) -> str:
    """`repo`, if it may be the name of a repository. Raises ConfigError."""
    if not is_repo(repo) or ".." in repo or "--" in repo or repo.endswith(".git"):
        raise ConfigError(f"{repo!r} cannot be a repository on the Hub", "write owner/name")
    return repo


def check_revision(revision: str | None) -> str | None:
    """`revision`, if a branch, tag or commit may have that name. Raises ConfigError."""
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise ConfigError(f"{revision!r} cannot be a revision", "write a branch, a tag or a commit")
    return revision
