"""`apmctl doctor`: whether this machine is ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apmctl import checks, errors, options
from apmctl.output import Sink
from apmctl.signature import takes
from apmctl.text import clean, table

if TYPE_CHECKING:
    from apmctl.checks import Finding


@takes(options.STORE, options.OUTPUT)
def doctor(*, store: Path, out: Sink) -> None:
    """Check versions, device, precision, the compiler, the store and the Hub login."""
    found = checks.everything(store)
    failed = [finding for finding in found if finding.status == "error"]
    out.result(
        {"command": "doctor", "ok": not failed, "checks": found},
        _report(found),
        "\n".join(f"{finding.name}: {finding.status}" for finding in failed) or "ok",
    )
    if failed:
        raise typer.Exit(errors.FAILED)


def _report(found: Sequence[Finding]) -> str:
    rows = [(finding.name, finding.status, finding.detail) for finding in found]
    hints = [f"{clean(finding.name)}: {clean(finding.hint)}" for finding in found if finding.hint]
    return "\n".join([table(("check", "status", "found"), rows), *hints])
