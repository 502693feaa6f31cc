"""From what was asked for to a record that an unfinished run keeps, and back to the same artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from apmctl_core import data as datasets
from apmctl_core.artifacts.request import Request
from apmctl_core.config import Recipe, to_dict
from apmctl_core.data.splits import is_elsewhere
from apmctl_core.errors import MismatchError
from apmctl_core.jobs.job import Job, Located
from apmctl_core.jobs.session import Session


def asked(session: Session, action: str, job: Job, **given: object) -> Session:
    """The session with the request that the runs of `job` keep; `given` are fields of it.

    Raises MismatchError where the session resumes a run and the job makes something else than was asked for then.
    """
    request = session.request or _request(session, action, job, given)
    if not request.target.endswith(f"@{job.id}"):
        raise MismatchError(
            f"{request.target} cannot be resumed: its data or the program has changed since",
            "give the same files with `data_path`, or remove the run with `rm`",
        )
    return replace(session, request=msgspec.structs.replace(request, **_machine(session)))


def located(recipe: Recipe, job: Job) -> dict[str, object]:
    """The recipe of a job as plain values, its data named as in the `recipe` given: folders by where they lie."""
    name, split = recipe.data.dataset, recipe.data.test_split
    if name not in datasets.KNOWN and not name.startswith("hf:"):
        name = str(Path(name).expanduser().absolute())
    if split is not None and is_elsewhere(split):
        split = str(Path(split).expanduser().absolute())
    return to_dict(replace(job.recipe, data=replace(job.recipe.data, dataset=name, test_split=split)))


def _request(session: Session, action: str, job: Job, given: dict[str, object]) -> Request:
    sources = {name: _ref(session, source) for name, source in job.reads.items() if isinstance(source, Located)}
    return Request(
        action=action,  # type: ignore[arg-type]
        target=f"{job.label}@{job.id}",
        name=job.name,
        needs=tuple(source.id for source in job.reads.values()),
        line=session.line,
        **sources,  # type: ignore[arg-type]
        **given,  # type: ignore[arg-type]
    )


def _machine(session: Session) -> dict[str, object]:
    runtime = session.runtime
    return {
        "device": runtime.device.type,
        "compile": runtime.compile,
        "segment": runtime.limit,
        "memory_budget": runtime.memory_budget,
        "workers": runtime.workers,
        "data_path": _absolute(session.data_path),
        "test_path": _absolute(session.test_path),
        "skip_broken": session.skip_broken,
    }


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())


def _ref(session: Session, source: Located) -> str:
    """What names an artifact later on, too: its id in the store, or where it lies outside."""
    inside = source.path.is_relative_to(session.store.root.absolute())
    return source.id if inside else str(source.path)
