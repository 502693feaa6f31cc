"""Going on with an unfinished run, without the command that began it."""

from __future__ import annotations

from dataclasses import replace

from apmctl_core.artifacts.request import Request
from apmctl_core.config import Recipe, from_dict
from apmctl_core.errors import ArtifactError, ConfigError
from apmctl_core.jobs.commands import distill_set, evaluate_set, relabel_set, train_pool
from apmctl_core.jobs.job import Outcome
from apmctl_core.jobs.session import Session
from apmctl_core.storage.files import DAMAGED_HINT


def resume(session: Session, request: Request) -> Outcome:
    """Make what a run was asked for, from where it stopped.

    The session says where and how to compute. Raises MismatchError where the request would now make something else,
    ArtifactError for one that makes no sense, and what the action raises.
    """
    session = replace(session, request=request)
    if request.action == "teachers":
        return train_pool(session, _recipe(request), name=request.name)
    if request.action == "distill":
        return distill_set(session, _recipe(request), pool=request.pool, name=request.name)
    if request.set is None:
        raise ArtifactError(f"the run of {request.target} does not say which set it is about", DAMAGED_HINT)
    if request.action == "relabel":
        settings = {"pool": request.pool, "committee": request.committee, "name": request.name}
        return relabel_set(session, request.set, **settings)  # type: ignore[arg-type]
    return evaluate_set(session, request.set, request.changes)


def _recipe(request: Request) -> Recipe:
    try:
        return from_dict(Recipe, request.recipe)
    except ConfigError as e:
        raise ArtifactError(f"the run of {request.target} has no usable recipe: {e.message}", DAMAGED_HINT) from e
