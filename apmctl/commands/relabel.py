"""`apmctl relabel`: the same images with the logits of other teachers, as a new set."""

from __future__ import annotations

from typing import Annotated

import typer

from apmctl import options, present
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.signature import takes
from apmctl_core.errors import ConfigError

_COMMITTEES = ("mean", "single")


@takes(options.machine(), options.OUTPUT)
def relabel(
    ref: options.SetArgument,
    *,
    teachers: options.PoolOption = None,
    committee: Annotated[
        str, typer.Option("--committee", metavar="mean|single", help="Who labels: all teachers, or one.")
    ] = "mean",
    name: options.NameOption = None,
    machine: Machine,
    out: Sink,
) -> None:
    """Give the images of a set new logits, by its own pool of teachers or another one."""
    if committee not in _COMMITTEES:
        raise ConfigError(f"--committee cannot be {committee!r}", f"choose one of: {', '.join(_COMMITTEES)}")
    with opened(machine, out) as session:
        from apmctl_core.jobs.pipeline import relabel_set

        outcome = relabel_set(session, ref, pool=teachers, committee=committee, name=name)
    present.deliver_made(out, "relabel", outcome)
