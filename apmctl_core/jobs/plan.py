"""What a command would do, before it does it: its jobs, which of them are done, and what the others cost."""

from __future__ import annotations

from dataclasses import dataclass

from apmctl_core.artifacts import Artifact
from apmctl_core.config import Recipe
from apmctl_core.data import Dataset
from apmctl_core.jobs import trial
from apmctl_core.jobs.advice import Advice, advise
from apmctl_core.jobs.commands import pool_job, set_job
from apmctl_core.jobs.job import Job, Located, pending, pools_at_hand
from apmctl_core.jobs.session import Session
from apmctl_core.machine.load import Neighbours
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models.size import ALL_GRADIENTS

_COMPILE_SECONDS = 25.0
_WHITENING = 1.25  # whitening real images costs a teacher about a quarter more, measured at width 32
_SPREAD = 1.6  # how far measured times were from the estimate at most, either way


@dataclass(frozen=True)
class PlanStep:
    """One job, to be done or reused; `seconds` is 0 for one that is done, and most likely between `low` and `high`."""

    name: str
    detail: str
    seconds: float
    seconds_low: float
    seconds_high: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run. `id` is None while the data is not at hand: it depends on them.

    `other_cores` that other processes kept busy meanwhile; `busy` where they slow this machine down · `advice` where it
    takes long.
    """

    command: str
    id: str | None
    exists: bool
    recipe: Recipe
    steps: tuple[PlanStep, ...]
    memory_bytes: int
    disk_bytes: int
    segment: int  # images in the largest pass of the command's own job
    test_split: str | None = None  # what is tested on, in words; None while the data is not at hand
    busy: bool = False
    other_cores: float = 0.0
    advice: tuple[Advice, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def seconds_low(self) -> float:
        return sum(step.seconds_low for step in self.steps)

    @property
    def seconds_high(self) -> float:
        return sum(step.seconds_high for step in self.steps)


def plan(session: Session, recipe: Recipe, command: str, *, pool: str | None = None, name: str | None = None) -> Plan:
    """What `teachers` or `distill` would do with a recipe. Runs a network for a second to learn how fast it is here.

    Raises what the command itself would raise for the same recipe and pool, as far as it can be told beforehand.
    """
    dataset = session.find_data(recipe.data)
    job = _job(session, recipe, command, dataset, pool, name)
    todo = pending(session, job)
    costs = {each: each.cost() for each in todo}
    # Before the networks are tried out, which takes memory itself.
    runtimes = {each: session.runtime.for_cost(cost) for each, cost in costs.items()}
    memory_bytes = max((runtimes[each].peak_bytes(cost) for each, cost in costs.items()), default=0)
    neighbours = Neighbours()
    times = [_seconds(session, each) for each in todo]
    likely = sum(quiet for quiet, _ in times)
    others = neighbours.cores() if todo else 0.0
    slow = neighbours.slowdown(session.runtime.device) if todo else 1.0
    steps = [_step(each, *seconds, slow) for each, seconds in zip(todo, times, strict=True)]
    reused = [_reused(each) for each in pools_at_hand(session, job)] if todo else []

    def ask(other: Recipe) -> float:
        return sum(_seconds(session, each)[0] for each in pending(session, _job(session, other, command, dataset)))

    flops = sum(cost.flops for cost in costs.values())
    return Plan(
        command=command,
        id=job.id if job.fingerprint else None,
        exists=not todo,
        recipe=job.recipe,
        memory_bytes=memory_bytes,
        disk_bytes=sum(cost.disk_bytes for cost in costs.values()),
        segment=runtimes[job].segment.longest if todo else 0,
        test_split=(dataset.split if dataset else None) or None,
        steps=(*reused, *steps),
        busy=slow > 1,
        other_cores=round(others, 2),
        advice=tuple(advise(job.recipe, command, flops, likely, session.runtime.device, ask)),
    )


def _job(
    session: Session,
    recipe: Recipe,
    command: str,
    dataset: Dataset | None,
    pool: str | None = None,
    name: str | None = None,
) -> Job:
    if command == "distill":
        return set_job(session, recipe, dataset, pool=pool, name=name)
    return pool_job(session, recipe, dataset, name=name)


def _reused(pool: Artifact | Located) -> PlanStep:
    return PlanStep("teachers", f"reuse pool {pool.ref}", 0.0, 0.0, 0.0)


def _step(job: Job, quiet: float, now: float, slow: float) -> PlanStep:
    """A job with the range of its time: from that on a quiet machine to that of a machine which stays as busy."""
    longest = max(now, quiet * slow) if slow > 1 else quiet
    return PlanStep(job.stage, job.describe(), quiet, quiet / _SPREAD, longest * _SPREAD)


def _seconds(session: Session, job: Job) -> tuple[float, float]:
    """The time that a job would take, on a quiet machine and as busy as it is now.

    Its operations by the speed of a short trial, with the threads that it gets.
    """
    cost = job.cost()
    runtime: Runtime = session.runtime.for_cost(cost)
    whitened = job.kind == "pool" and job.recipe.data.preprocessing == "zca"
    batch = max(1, round(cost.step_flops / ALL_GRADIENTS / max(1.0, job.size.multiply_adds)))
    speed, extra = trial.speed(job, batch, runtime), _COMPILE_SECONDS if runtime.compile else 0.0
    work = cost.flops * (_WHITENING if whitened else 1.0)
    return work / speed.quiet + extra, work / speed.now + extra
