"""`apmctl teachers`: train or reuse a pool of teachers."""

from __future__ import annotations

from apmctl import fields, options
from apmctl.fields import Settings
from apmctl.options import Machine
from apmctl.output import Result, Sink
from apmctl.results.made import Made, planned
from apmctl.signature import takes


@takes(fields.settings(fields.TEACHERS), options.MACHINE, options.OUTPUT)
def teachers(
    dataset: options.DatasetArgument = None,
    *,
    name: options.NameOption = None,
    dry_run: options.DryRunOption = False,
    settings: Settings,
    machine: Machine,
    out: Sink,
) -> None:
    """Train a pool of teachers on a data set, or reuse the one that exists."""
    recipe, origin = settings.recipe(dataset)
    with machine.session(out) as session:
        from apmctl_core import jobs

        result: Result
        if dry_run:
            result = planned(jobs.plan(session, recipe, "teachers"), origin)
        else:
            result = Made.by("teachers", jobs.train_pool(session, recipe, name=name))
    out.result(result)
