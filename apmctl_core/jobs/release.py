"""The whole pipeline in one call: a set is distilled, measured and pushed. Finished steps are reused."""

from __future__ import annotations

from apmctl_core.config import Recipe
from apmctl_core.hub.push import Pushed, preflight, push
from apmctl_core.jobs.commands import distill_set, evaluate_set
from apmctl_core.jobs.job import Outcome
from apmctl_core.jobs.session import Session


def release(
    session: Session, recipe: Recipe, repo: str, *, pool: str | None = None, name: str | None = None
) -> tuple[Outcome, Outcome, Pushed]:
    """The set of a recipe, its report by that recipe, and what was pushed. Raises what the three steps raise.

    The right to write to the repository is checked before the work begins.
    """
    preflight("set", repo, session.emit)
    distilled = distill_set(session, recipe, pool=pool, name=name)
    report = evaluate_set(session, distilled.artifact.ref, {})
    return distilled, report, push(session.store, distilled.artifact, repo, emit=session.emit)
