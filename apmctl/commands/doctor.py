"""`apmctl doctor`: whether this machine is ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apmctl import errors, options
from apmctl.blocks import Block, Table
from apmctl.output import Sink
from apmctl.signature import takes

if TYPE_CHECKING:
    from apmctl_core.machine.diagnosis import Check


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was checked."""

    command: str = "doctor"
    ok: bool
    checks: Sequence[Check]

    def brief(self) -> str:
        return "ok" if self.ok else "\n".join(f"{c.name}: error" for c in self.checks if c.status == "error")

    def blocks(self) -> Iterator[Block]:
        rows = [(check.name, check.status, check.detail) for check in self.checks]
        yield Table(("check", "status", "detail"), rows, wrap=("detail",))
        yield from (f"{check.name}: {errors.translate(check.hint, '')}" for check in self.checks if check.hint)


@takes(options.STORE, options.OUTPUT)
def doctor(*, store: Path, out: Sink) -> None:
    """Check versions, device, precision, the compiler, the store and the Hub login."""
    from apmctl import checks

    results = checks.everything(store)
    ok = all(check.status != "error" for check in results)
    out.result(Diagnosis(ok=ok, checks=results))
    if not ok:
        raise typer.Exit(errors.FAILED)
