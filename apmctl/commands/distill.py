"""`apmctl distill`: a distilled set, made or found."""

from __future__ import annotations

from apmctl import fields, options, plans, present
from apmctl.fields import Settings
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.signature import takes


@takes(fields.settings(fields.DISTILL), options.machine(segment=True), options.OUTPUT)
def distill(
    dataset: options.DatasetArgument = None,
    *,
    teachers: options.PoolOption = None,
    name: options.NameOption = None,
    dry_run: options.DryRunOption = False,
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
        from apmctl_core.pipeline import distill_set

        outcome = distill_set(session, recipe, pool=teachers, name=name)
    present.deliver_made(out, "distill", outcome)
