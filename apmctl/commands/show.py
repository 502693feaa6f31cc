"""`apmctl show`: what matters of an artifact, all of its manifest with `--all`, and what several differ in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apmctl import progress
from apmctl.blocks import Block
from apmctl.commands.runs import ShownRun
from apmctl.options import OUTPUT, REFS, STORE
from apmctl.output import Result, Sink
from apmctl.signature import option, takes

if TYPE_CHECKING:
    from apmctl.shown import Shown
    from apmctl_core.artifacts.store import Store


@dataclass(frozen=True)
class Everything:
    """An artifact, shown to people with all of its manifest."""

    shown: Shown

    def document(self) -> Shown:
        """The same document as without."""
        return self.shown

    def brief(self) -> str:
        """The path."""
        return self.shown.brief()

    def blocks(self) -> Iterator[Block]:
        """What matters, then everything."""
        *blocks, _ = self.shown.blocks()  # the last line says how to see what follows
        yield from blocks
        yield from self.shown.details()


_ALL = option(None, "--all", bool, "Show the whole recipe, inputs, metrics, files and environment, too.", False)


@takes(REFS, STORE, OUTPUT, _ALL)
def show(refs: list[str], all: bool, store: Store, out: Sink) -> None:
    """Show an artifact: its accuracies and how it was made; how far an unfinished run is; what several differ in."""
    if len(refs) == 1 and (run := store.run(refs[0])):
        out.result(ShownRun.by(run))
        return
    with progress.listening(out) as emit:
        from apmctl import shown  # a dozen results, which no other command needs
        from apmctl.commands.contrast import Contrast
        from apmctl.measures import sound
        from apmctl_core.artifacts.verify import note_missing_digest
        from apmctl_core.hub.find import find

        artifacts = [find(store, ref, emit=emit) for ref in refs]
        for artifact in artifacts:
            note_missing_digest(artifact, emit)
    result: Result
    if len(artifacts) > 1:
        result = Contrast.by(artifacts, sound(store, "report", out))
    else:
        first = shown.shown(artifacts[0], store, out)
        result = Everything(first) if all else first
    out.result(result)
