"""`apmctl distill`: make or reuse a distilled set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apmctl import fields, options
from apmctl.fields import Settings
from apmctl.options import Machine
from apmctl.output import Result, Sink
from apmctl.results.exchanged import Location, Released
from apmctl.results.made import Made, planned
from apmctl.signature import takes

if TYPE_CHECKING:
    from apmctl_core.config import Recipe
    from apmctl_core.jobs.pipeline import Session

_PUSH_HELP = "Evaluate the finished set, and push it to the Hub with its accuracies."
_Push = Annotated[
    str | None,
    typer.Option("--push", metavar="OWNER/NAME", help=_PUSH_HELP, rich_help_panel=options.OUTPUT_PANEL),
]


@takes(fields.settings(fields.DISTILL), options.MACHINE, options.OUTPUT)
def distill(
    dataset: options.DatasetArgument = None,
    *,
    teachers: options.PoolOption = None,
    name: options.NameOption = None,
    dry_run: options.DryRunOption = False,
    push: _Push = None,
    settings: Settings,
    machine: Machine,
    out: Sink,
) -> None:
    """Distil a data set into a few synthetic images per class; trains or reuses a pool if none is given."""
    recipe, origin = settings.recipe(dataset)
    with machine.session(out) as session:
        from apmctl_core.jobs import pipeline, planning

        result: Result
        if dry_run:
            result = planned(planning.plan(session, recipe, "distill", pool=teachers), origin)
        elif push is not None:
            result = _release(session, recipe, teachers, name, push)
        else:
            result = Made.by("distill", pipeline.distill_set(session, recipe, pool=teachers, name=name))
    out.result(result)


def _release(session: Session, recipe: Recipe, teachers: str | None, name: str | None, repo: str) -> Released:
    """Distil, evaluate and push; the right to write is checked before the work begins."""
    from apmctl_core.hub.push import preflight
    from apmctl_core.hub.release import release
    from apmctl_core.jobs import pipeline

    preflight("set", repo, session.emit)
    outcome = pipeline.distill_set(session, recipe, pool=teachers, name=name)
    report, pushed = release(session, outcome.artifact, repo)
    hub = Location.of(pushed, repository=pushed.repo)
    return Released.by("distill", outcome, results=report.metrics["results"], hub=hub)
