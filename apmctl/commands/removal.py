"""`apmctl rm` and `gc`: what leaves the store, and the results of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from apmctl.blocks import Block
from apmctl.options import OUTPUT, STORE
from apmctl.output import Sink
from apmctl.results import Document
from apmctl.signature import argument, takes

if TYPE_CHECKING:
    from apmctl_core.artifacts.store import Store


class Removed(Document):
    """The references of what was removed."""

    command: str = "rm"
    removed: Sequence[str]

    def brief(self) -> str:
        return "\n".join(self.removed)

    def blocks(self) -> Iterator[Block]:
        yield from (f"removed {ref}" for ref in self.removed)


@takes(argument("refs", list[str], "REF...", "Names, name@id, or prefixes of ids."), STORE, OUTPUT)
def remove(refs: list[str], store: Store, out: Sink) -> None:
    """Remove artifacts and unfinished runs from the store."""
    # All references are looked up before anything is removed: a typing error removes nothing.
    targets = {target.path: target for target in map(store.target, refs)}.values()
    for target in targets:
        store.remove(target)
    out.result(Removed(removed=[target.ref for target in targets]))


class Swept(Document):
    """What killed commands had left in the store, by path."""

    command: str = "gc"
    removed: Sequence[str]

    def brief(self) -> str:
        return "\n".join(self.removed)

    def blocks(self) -> Iterator[Block]:
        yield from (f"removed {path}" for path in self.removed or ["nothing"])


@takes(STORE, OUTPUT)
def gc(store: Store, out: Sink) -> None:
    """Remove what killed removals, pushes and pulls left in the store; running ones keep theirs.

    A pull that was interrupted begins anew after it.
    """
    from apmctl_core.hub import staging

    left = [*store.sweep(), *staging.sweep(store)]
    out.result(Swept(removed=sorted(str(path.relative_to(store.root)) for path in left)))
