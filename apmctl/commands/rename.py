"""`apmctl rename` and its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from apmctl import progress
from apmctl.blocks import Block
from apmctl.options import OUTPUT, STORE
from apmctl.output import Sink
from apmctl.results import Document, Identity
from apmctl.signature import argument, takes

if TYPE_CHECKING:
    from apmctl_core.artifacts.store import Store


class Renamed(Document):
    """An artifact under its new name, and the reference that it had before."""

    command: str = "rename"
    artifact: Identity
    renamed: str

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        yield f"renamed {self.renamed} to {self.artifact.ref}"


@takes(
    argument("ref", str, "REF", "A name, name@id, or a prefix of an id."),
    argument("name", str, "NAME", "The new name."),
    STORE,
    OUTPUT,
)
def rename(ref: str, name: str, store: Store, out: Sink) -> None:
    """Give an artifact another name; its id stays, and with it what was made from it."""
    with progress.listening(out) as emit:
        artifact = store.find(ref, emit=emit)
        renamed = store.rename(artifact, name, emit)
    out.result(Renamed(artifact=Identity.of(renamed), renamed=artifact.ref))
