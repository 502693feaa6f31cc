"""`apmctl list`, `show`, `verify` and `rm`: what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apmctl import options, present, progress
from apmctl.output import Sink
from apmctl.signature import takes
from apmctl_core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact

_KINDS = ("pool", "set", "report")
_Kind = Annotated[str | None, typer.Option("--kind", metavar="|".join(_KINDS), help="Only artifacts of this kind.")]


@takes(options.STORE, options.OUTPUT)
def list_(*, kind: _Kind = None, store: Path, out: Sink) -> None:
    """List artifacts, and unfinished runs with their progress."""
    from apmctl_core.artifacts.store import Store

    if kind is not None and kind not in _KINDS:
        raise ConfigError(f"--kind cannot be {kind!r}", f"choose one of: {', '.join(_KINDS)}")
    home = Store(store)
    everything, damaged = home.scan()
    for each in damaged:
        out.note(f"left out {each.ref}: {each.error.message}", "warning")
    reports = present.newest_reports(everything)
    chosen = [a for a in everything if kind in (None, a.kind)]
    artifacts = [present.listed(a, present.accuracy_of(a, reports)) for a in chosen]
    runs = [present.unfinished(r) for r in home.runs() if kind in (None, r.kind)]
    brief = "\n".join(a.ref for a in chosen)
    out.result({"command": "list", "artifacts": artifacts, "runs": runs}, present.inventory(artifacts, runs), brief)


@takes(options.STORE, options.OUTPUT)
def show(ref: options.RefArgument, *, store: Path, out: Sink) -> None:
    """Show an artifact: its recipe, inputs, metrics and files."""
    artifact = _find(store, ref, out)
    document = {"command": "show", **present.shown(artifact)}
    out.result(document, present.description(artifact), str(artifact.path))


@takes(options.STORE, options.OUTPUT)
def verify(ref: options.RefArgument, *, store: Path, out: Sink) -> None:
    """Check every file of an artifact against its manifest, and every value as loading it would."""
    from apmctl_core.artifacts.verify import verify as problems_of
    from apmctl_core.models.registry import state_shapes

    artifact = _find(store, ref, out)
    problems = problems_of(artifact, state_shapes)
    for problem in problems[1:]:
        out.note(f"{artifact.ref}: {problem}", "warning")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{artifact.ref} is damaged: {problems[0]}{more}", "make or fetch it again")
    files = len(artifact.manifest.files)
    document = {"command": "verify", "artifact": present.identity(artifact), "files": files, "bytes": artifact.size}
    out.result(document, present.soundness(artifact), artifact.ref)


@takes(options.STORE, options.OUTPUT)
def remove(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="Names, name@id, starts of ids.")],
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
    removed = [target.ref for target in targets]
    out.result(
        {"command": "rm", "removed": removed}, "\n".join(f"removed {ref}" for ref in removed), "\n".join(removed)
    )


def _find(store: Path, ref: str, out: Sink) -> Artifact:
    from apmctl_core.artifacts.store import Store
    from apmctl_core.hub.find import find

    with progress.listening(out) as emit:
        return find(Store(store), ref, emit=emit)
