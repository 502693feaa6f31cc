"""Results of the commands that exchange artifacts with the Hub: `push`, `pull` and `distill --push`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from apmctl.blocks import Block, Pairs
from apmctl.results import Document
from apmctl.results.made import Identity, Made, Product, accuracies
from apmctl.text import count, size

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.hub.pull import Pulled as Fetched


@dataclass(frozen=True, kw_only=True)
class Location(Document):
    """Where a push has put an artifact, and what it sent."""

    repository: str
    type: str
    url: str
    revision: str
    commit: str
    tag: str | None
    pull_request: str | None
    uploaded: Sequence[str]
    deleted: Sequence[str]
    unchanged: int
    sent_bytes: int

    def pairs(self) -> Pairs:
        """The same as people read it."""
        sent = f"{count(len(self.uploaded), 'file')}, {size(self.sent_bytes)}" if self.uploaded else "nothing new"
        rows = [("url", self.url), ("revision", self.revision), ("commit", self.commit)]
        rows += [("sent", sent), ("unchanged", count(self.unchanged, "file"))]
        optional = [("deleted", ", ".join(self.deleted)), ("tag", self.tag), ("pull request", self.pull_request)]
        return Pairs([*rows, *((key, value) for key, value in optional if value)])


@dataclass(frozen=True, kw_only=True)
class _OfPush(Document):
    command: str = "push"
    artifact: Identity


@dataclass(frozen=True, kw_only=True)
class Pushed(Location, _OfPush):
    """An artifact that was pushed."""

    def brief(self) -> str:
        return self.commit

    def blocks(self) -> Iterator[Block]:
        yield self.artifact.headline
        yield self.pairs()


@dataclass(frozen=True, kw_only=True)
class Released(Made):
    """A set that was made, evaluated and pushed."""

    results: Sequence[ReportRow]
    hub: Location

    def blocks(self) -> Iterator[Block]:
        yield from super().blocks()
        yield from accuracies(self.results)
        yield self.hub.pairs()


@dataclass(frozen=True, kw_only=True)
class Pulled(Document):
    """An artifact that was pulled, or that the store had."""

    command: str = "pull"
    artifact: Product
    repository: str
    revision: str
    commit: str
    downloaded_bytes: int

    @classmethod
    def by(cls, pulled: Fetched) -> Self:
        """The result of a pull."""
        artifact = Product.of(pulled.artifact, reused=pulled.reused)
        repository, revision = pulled.reference.repo, pulled.reference.revision or "main"
        return cls.of(pulled, artifact=artifact, repository=repository, revision=revision)

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        yield self.artifact.headline
        path, fetched = self.artifact.path, size(self.downloaded_bytes)
        yield Pairs([("path", path), ("commit", self.commit), ("downloaded", fetched)])
