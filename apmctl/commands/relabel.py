"""`apmctl relabel`: the same images with the logits of other teachers, as a new set."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from apmctl import options
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.results.made import Made
from apmctl.signature import takes

Committee = StrEnum("Committee", ["mean", "single"])


@takes(options.MACHINE, options.OUTPUT)
def relabel(
    ref: options.SetArgument,
    *,
    teachers: options.PoolOption = None,
    committee: Annotated[
        Committee, typer.Option("--committee", metavar="mean|single", help="Who labels: all teachers, or one.")
    ] = Committee.mean,
    name: options.NameOption = None,
    machine: Machine,
    out: Sink,
) -> None:
    """Give the images of a set new logits, from its own pool of teachers or another one."""
    with machine.session(out) as session:
        from apmctl_core import jobs

        outcome = jobs.relabel_set(session, ref, pool=teachers, committee=committee.value, name=name)
    out.result(Made.by("relabel", outcome))
