"""`apmctl eval`: networks trained on a set, tested, and compared with random real images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apmctl import fields, options, present
from apmctl.errors import FAILED, Failure
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.signature import takes
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow

_Threshold = Annotated[
    float | None,
    typer.Option(
        "--min-accuracy",
        metavar="X",
        help="Exit 1 where the first row's mean is below this fraction.",
        rich_help_panel="Evaluation",
    ),
]


@takes(fields.changes(fields.EVALUATE), options.machine(), options.OUTPUT)
def evaluate(
    ref: options.SetArgument,
    *,
    min_accuracy: _Threshold = None,
    changes: dict[str, Any],
    machine: Machine,
    out: Sink,
) -> None:
    """Train networks on a set, test them, and compare with as many random real images."""
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise ConfigError(f"--min-accuracy must be a fraction, got {min_accuracy}", "e.g. 0.4 for 40 per cent")
    with opened(machine, out) as session:
        from apmctl_core.jobs.pipeline import evaluate_set

        outcome = evaluate_set(session, ref, changes)
    present.deliver_results(out, outcome)
    below = _below(outcome.metrics["results"], min_accuracy)
    if below is not None:
        # The measured result stands on stdout; stderr and the exit code say that it is too low.
        out.complaint(below)
        raise typer.Exit(below.exit_code)


def _below(rows: Sequence[ReportRow], least: float | None) -> Failure | None:
    if least is None or rows[0].accuracy_mean >= least:
        return None
    found = f"{rows[0].arch}, {rows[0].labels} labels"
    message = f"accuracy {rows[0].accuracy_mean:.4f} ({found}) is below --min-accuracy {least:g}"
    return Failure("BelowThreshold", message, "distil with more images a class or more rounds", FAILED)
