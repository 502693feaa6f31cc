"""`apmctl push` and `apmctl pull`: artifacts on the Hugging Face Hub, and the results of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from apmctl import options, progress
from apmctl.blocks import Block, Pairs
from apmctl.output import Sink
from apmctl.results import Document, Identity, Product
from apmctl.signature import argument, option, takes, together
from apmctl.text import count, size

if TYPE_CHECKING:
    from apmctl_core.artifacts.store import Store
    from apmctl_core.hub.pull import Pulled as Fetched
    from apmctl_core.hub.push import Pushed as Publication


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

    @classmethod
    def by(cls, pushed: Publication, **more: Any) -> Self:
        """The result of a push."""
        return cls.of(pushed, repository=pushed.repo, **more)

    def pairs(self) -> Pairs:
        """The same as people read it."""
        sent = f"{count(len(self.uploaded), 'file')}, {size(self.sent_bytes)}" if self.uploaded else "nothing new"
        rows = [("url", self.url), ("revision", self.revision), ("commit", self.commit)]
        rows += [("sent", sent), ("unchanged", count(self.unchanged, "file"))]
        optional = [("deleted", ", ".join(self.deleted)), ("tag", self.tag), ("pull request", self.pull_request)]
        return Pairs([*rows, *((key, value) for key, value in optional if value)])


class _OfPush(Document):
    command: str = "push"
    artifact: Identity


class Pushed(Location, _OfPush):
    """An artifact that was pushed."""

    def brief(self) -> str:
        return self.commit

    def blocks(self) -> Iterator[Block]:
        yield self.artifact.headline
        yield self.pairs()


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


_REPO = argument("repo", str, "OWNER/NAME", "The repository on the Hub.")
_option = partial(option, "Hub")
_PUSH_OPTIONS = (
    _option("--private", bool, "Make the repository private.", False),
    _option("--revision", str | None, "The branch; created if it is missing.", metavar="BRANCH"),
    _option("--tag", str | None, "Tag the commit.", metavar="TAG"),
    _option("--message -m", str | None, "Title of the commit.", metavar="TITLE"),
    _option("--create-pr", bool, "Open a pull request instead.", False),
    _option("--license", str | None, "License for the card, e.g. cc-by-4.0.", metavar="ID"),
)


@takes(options.LOCAL, _REPO, together("how", _PUSH_OPTIONS, dict), options.STORE, options.OUTPUT)
def push(ref: str, repo: str, how: dict[str, Any], store: Store, out: Sink) -> None:
    """Push a set or a pool to the Hub, with a card and, for sets, the images as parquet."""
    with progress.listening(out) as emit:
        from apmctl_core.hub import push as hub

        artifact = store.find(ref, emit=emit)
        pushed = hub.push(store, artifact, repo, hub.Options(**how), emit=emit)
    out.result(Pushed.by(pushed, artifact=Identity.of(artifact)))


_REVISION = _option("--revision", str | None, "A branch, tag or commit [default: main].", metavar="REVISION")


@takes(_REPO, _REVISION, options.STORE, options.OUTPUT)
def pull(repo: str, revision: str | None, store: Store, out: Sink) -> None:
    """Pull a set or a pool from the Hub; it appears in the store once every file is checked."""
    with progress.listening(out) as emit:
        from apmctl_core.hub import pull as hub
        from apmctl_core.network.references import parse

        pulled = hub.pull(store, parse(repo, revision), emit=emit)
    out.result(Pulled.by(pulled))
