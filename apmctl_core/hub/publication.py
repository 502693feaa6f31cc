"""The options of a push, and its result."""

from __future__ import annotations

from dataclasses import dataclass

from apmctl_core.errors import ConfigError
from apmctl_core.network.references import check_revision


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
            raise ConfigError(
                "`create_pr` cannot be combined with `tag` or `revision`",
                "a pull request goes to the main branch; tag it when it is merged",
            )


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
