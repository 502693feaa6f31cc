"""`apmctl teachers`: a pool of teachers, trained or found."""

from __future__ import annotations

from apmctl import fields, options, plans, present
from apmctl.fields import Settings
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.signature import takes


@takes(fields.settings(fields.TEACHERS), options.machine(), options.OUTPUT)
def teachers(
    dataset: options.DatasetArgument = None,
    *,
    name: options.NameOption = None,
    dry_run: options.DryRunOption = False,
    settings: Settings,
    machine: Machine,
    out: Sink,
) -> None:
    """Train a pool of teachers on a data set, or find the one that was trained before."""
    recipe, origin = settings.recipe(dataset)
    if dry_run:
        plans.deliver(out, machine, "teachers", recipe, origin)
        return
    with opened(machine, out) as session:
        from apmctl_core.jobs.pipeline import train_pool

        outcome = train_pool(session, recipe, name=name)
    present.deliver_made(out, "teachers", outcome)
