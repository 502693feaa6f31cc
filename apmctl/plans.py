"""What `--dry-run` shows: the settled recipe, what has to be made, time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apmctl import present
from apmctl.options import Machine
from apmctl.output import Sink
from apmctl.sessions import opened
from apmctl.text import duration, pairs, size, table
from apmctl_core.config import Recipe, to_dict

if TYPE_CHECKING:
    from apmctl_core.jobs.planning import Plan


def deliver(out: Sink, machine: Machine, command: str, recipe: Recipe, origin: str, pool: str | None = None) -> None:
    """Plan a command and deliver the plan as its result. Raises what planning raises."""
    with opened(machine, out) as session:
        from apmctl_core.jobs.planning import plan as make_plan

        plan = make_plan(session, recipe, command, pool=pool)
    document = {
        "command": command,
        "dry_run": True,
        "id": plan.id,
        "exists": plan.exists,
        "settings_from": origin,
        "recipe": to_dict(plan.recipe),
        "steps": [{"name": s.name, "detail": s.detail, "seconds": s.seconds} for s in plan.steps],
        "seconds": plan.seconds,
        "memory_bytes": plan.memory_bytes,
        "segment": plan.segment,
    }
    out.result(document, _text(plan, origin), plan.id or "")


def _text(plan: Plan, origin: str) -> str:
    head = f"would run {plan.command} with these settings ({origin}); nothing is done"
    settled = pairs(present.flat(to_dict(plan.recipe)), indent=2)
    made = f"id {plan.id or 'not known before the data is at hand'}"
    if plan.exists:
        return f"{head}\n{settled}\n{made}\nthere already, would be reused"
    rows = [(step.name, step.detail, _about(step.seconds)) for step in plan.steps]
    total = f"about {duration(plan.seconds)} and {size(plan.memory_bytes)} of memory on this machine, "
    total += f"{plan.segment} images at a time"
    return f"{head}\n{settled}\n{made}\n{table(('step', 'what', 'time'), rows)}\n{total}"


def _about(seconds: float) -> str:
    return "-" if seconds == 0 else f"about {duration(seconds)}"
