"""`apmctl distill`: a distilled set, made or found."""

from __future__ import annotations

from typing import Annotated

import typer

from apmctl import exchange, fields, options, plans, present
from apmctl.fields import Settings
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.signature import takes

_Push = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="OWNER/NAME",
        help="Measure the set when it is done, and push it to the Hub with the result.",
        rich_help_panel=options.OUTPUT_PANEL,
    ),
]


@takes(fields.settings(fields.DISTILL), options.machine(), options.OUTPUT)
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
    """Distil a data set into a few synthetic images a class; trains or finds a pool if none is named."""
    recipe, origin = settings.recipe(dataset)
    if dry_run:
        plans.deliver(out, machine, "distill", recipe, origin, teachers)
        return
    with opened(machine, out) as session:
        from apmctl_core.jobs.pipeline import distill_set

        if push is not None:
            from apmctl_core.hub.push import preflight
            from apmctl_core.jobs.release import release

            preflight("set", push, session.emit)
        outcome = distill_set(session, recipe, pool=teachers, name=name)
        released = release(session, outcome.artifact, push) if push is not None else None
    if released is None:
        present.deliver_made(out, "distill", outcome)
    else:
        exchange.deliver_released(out, outcome, *released)
