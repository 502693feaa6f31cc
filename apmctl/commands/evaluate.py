"""`apmctl eval`: train networks on a set, test them, compare with random real images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from apmctl import fields, options
from apmctl.errors import FAILED, Failure
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.results.made import Evaluated
from apmctl.signature import takes
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow

_THRESHOLD_HELP = "Exit 1 if the mean accuracy of the first row is below this fraction."
_Threshold = Annotated[
    float | None,
    typer.Option("--min-accuracy", metavar="X", help=_THRESHOLD_HELP, rich_help_panel="Evaluation"),
]


@takes(fields.changes(fields.EVALUATE), options.MACHINE, options.OUTPUT)
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
    with machine.session(out) as session:
        from apmctl_core.jobs import pipeline

        result = Evaluated.by(pipeline.evaluate_set(session, ref, changes))
    out.result(result)
    if min_accuracy is not None and result.results[0].accuracy_mean < min_accuracy:
        # The result stands on stdout; stderr and the exit code say that it is too low.
        out.complaint(_below(result.results[0], min_accuracy))
        raise typer.Exit(FAILED)


def _below(row: ReportRow, threshold: float) -> Failure:
    network = f"{row.arch}, {row.labels} labels"
    message = f"accuracy {row.accuracy_mean:.4f} ({network}) is below --min-accuracy {threshold:g}"
    return Failure("BelowThreshold", message, "distil with more images per class or more rounds", FAILED)
