"""The end of a pipeline: a set is measured, then pushed with its report. Finished steps are reused."""

from __future__ import annotations

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.hub.push import Options, Pushed, push
from apmctl_core.jobs.commands import evaluate_set
from apmctl_core.jobs.job import Outcome
from apmctl_core.jobs.session import Session


def release(session: Session, distilled: Artifact, repo: str, options: Options | None = None) -> tuple[Outcome, Pushed]:
    """Evaluate a set of the session's store by its own recipe, and push it. Raises what these two raise."""
    report = evaluate_set(session, distilled.ref, {})
    return report, push(session.store, distilled, repo, options, emit=session.emit)
