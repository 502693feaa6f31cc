"""`apmctl list`, `show`, `verify` and `rm`: the content of the store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apmctl import options, progress
from apmctl.output import Sink
from apmctl.results.kept import Listing, Removed, Verified, shown
from apmctl.results.made import Identity
from apmctl.signature import takes

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact
    from apmctl_core.events import Emit


Kind = StrEnum("Kind", ["pool", "set", "report"])
_Kind = Annotated[Kind | None, typer.Option("--kind", metavar="|".join(Kind), help="Only artifacts of this kind.")]


@takes(options.STORE, options.OUTPUT)
def list_(*, kind: _Kind = None, store: Path, out: Sink) -> None:
    """List artifacts, and unfinished runs with their progress."""
    from apmctl_core.artifacts.store import Store

    home = Store(store)
    artifacts, damaged = home.scan()
    for entry in damaged:
        out.note(f"skipped {entry.ref}: {entry.error.message}", "warning")
    out.result(Listing.by(artifacts, home.runs(), kind))


@takes(options.STORE, options.OUTPUT)
def show(ref: options.RefArgument, *, store: Path, out: Sink) -> None:
    """Show an artifact: its recipe, inputs, metrics and files."""
    with progress.listening(out) as emit:
        artifact = _find(store, ref, emit)
    out.result(shown(artifact))


@takes(options.STORE, options.OUTPUT)
def verify(ref: options.RefArgument, *, store: Path, out: Sink) -> None:
    """Check every file of an artifact against its manifest, and every value as loading would."""
    from apmctl_core.artifacts.verify import require_sound
    from apmctl_core.models.registry import state_shapes

    with progress.listening(out) as emit:
        artifact = _find(store, ref, emit)
        require_sound(artifact, state_shapes, emit=emit)
    out.result(Verified(artifact=Identity.of(artifact), files=len(artifact.manifest.files), bytes=artifact.size))


@takes(options.STORE, options.OUTPUT)
def remove(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="Names, name@id, or prefixes of ids.")],
    *,
    store: Path,
    out: Sink,
) -> None:
    """Remove artifacts and unfinished runs from the store."""
    from apmctl_core.artifacts.store import Store

    home = Store(store)
    # All references are looked up before anything is removed: a typing error removes nothing.
    targets = list({target.path: target for target in map(home.target, refs)}.values())
    for target in targets:
        home.remove(target)
    out.result(Removed(removed=[target.ref for target in targets]))


def _find(store: Path, ref: str, emit: Emit) -> Artifact:
    from apmctl_core.artifacts.store import Store
    from apmctl_core.hub.find import find

    return find(Store(store), ref, emit=emit)
