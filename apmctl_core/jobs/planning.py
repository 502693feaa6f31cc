"""What a command would do, before it does it: the settled recipe, what has to be made, time and memory."""

from __future__ import annotations

from dataclasses import dataclass

from apmctl_core import data as datasets
from apmctl_core.config import ApmConfig, Recipe
from apmctl_core.data import Dataset
from apmctl_core.jobs.pipeline import Session, check_ipc, load_data
from apmctl_core.jobs.recipes import check_pool, pool_job, set_job, settle
from apmctl_core.jobs.workload import Task, distill_load, peak_bytes, rate, task_of, teacher_load
from apmctl_core.machine.segment import Load, segment_length

_COMPILE_SECONDS = 25.0
_WHITENING = 1.25  # whitening real images costs a teacher about a quarter more, measured at width 32


@dataclass(frozen=True)
class PlanStep:
    """One thing to be made or reused; `seconds` is 0 for what is there already."""

    name: str
    detail: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run. `id` is None while the data is not at hand: it depends on them."""

    command: str
    id: str | None
    exists: bool
    recipe: Recipe
    steps: tuple[PlanStep, ...]
    memory_bytes: int
    segment: int  # images in the largest pass

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


def plan(session: Session, recipe: Recipe, command: str, *, pool: str | None = None) -> Plan:
    """What `teachers` or `distill` would do with a recipe. Runs a network for a second to learn how fast it is here.

    Raises what the command itself would raise for the same recipe and pool, as far as it can be told beforehand.
    """
    dataset, task = _data(session, recipe)
    recipe = settle(recipe, task.shape, task.num_classes, session.runtime)
    if dataset is not None:
        check_ipc(dataset, recipe)
    fingerprint = dataset.fingerprint if dataset else None
    given = session.find(pool, "pool") if pool else None
    if given is not None:
        check_pool(given, recipe, fingerprint or given.manifest.data["fingerprint"])
    pool_id = given.id if given else fingerprint and pool_job(recipe, fingerprint).id
    artifact_id = pool_id
    if command == "distill":
        artifact_id = set_job(recipe, fingerprint, pool_id).id if fingerprint and pool_id else None
    exists = bool(artifact_id and session.store.get("set" if command == "distill" else "pool", artifact_id))
    # Before the networks are tried out, which takes memory itself.
    peak, segment = (0, 0) if exists else _memory(session, recipe, task, command, pool_id)
    return Plan(
        command=command,
        id=artifact_id,
        exists=exists,
        recipe=recipe,
        steps=() if exists else tuple(_steps(session, recipe, task, command, pool_id)),
        memory_bytes=peak,
        segment=segment,
    )


def _memory(session: Session, recipe: Recipe, task: Task, command: str, pool_id: str | None) -> tuple[int, int]:
    """Bytes at the peak of all that is missing, and images in the command's own largest pass. Raises ConfigError."""
    loads = [distill_load(recipe, task)] if command == "distill" else []
    if not (pool_id and session.store.get("pool", pool_id)):
        loads.append(teacher_load(recipe, task))
    runtime = session.runtime
    for load in loads:
        runtime.segment.require(runtime.whole(load), runtime.device)
    chosen = [runtime.for_load(load) for load in loads]
    peak = max(peak_bytes(load, each) for load, each in zip(loads, chosen, strict=True))
    return peak, segment_length(loads[0].images, chosen[0].segment.limit)


def _data(session: Session, recipe: Recipe) -> tuple[Dataset | None, Task]:
    """The data if they are at hand, and their numbers; known sets have those without being loaded."""
    name, resolution = recipe.data.dataset, recipe.data.resolution
    dataset = datasets.find_cached(name, session.store.cache, path=session.data_path, resolution=resolution)
    if dataset is None and (name == "digits" or name not in datasets.KNOWN):
        dataset = load_data(session, recipe.data)
    if dataset is not None:
        return dataset, task_of(dataset)
    spec = datasets.KNOWN[name]
    channels, height, width = spec.shape
    shape = (channels, resolution or height, resolution or width)
    return None, Task(shape, spec.num_classes, spec.train, spec.test)


def _steps(session: Session, recipe: Recipe, task: Task, command: str, pool_id: str | None) -> list[PlanStep]:
    model, t, d = recipe.model, recipe.teachers, recipe.distill
    steps = []
    network = f"{model.arch} of width {model.width}"
    if pool_id and session.store.get("pool", pool_id):
        steps.append(PlanStep("teachers", f"reuse pool {pool_id}", 0.0))
    else:
        dearer = _WHITENING if recipe.data.preprocessing == "zca" else 1.0
        seconds = _seconds(session, recipe, task, teacher_load(recipe, task), t.batch) * dearer
        steps.append(PlanStep("teachers", f"train {t.count} {network}, {t.epochs} epochs each", seconds))
    if command == "distill":
        assert isinstance(d, ApmConfig)
        drawn = d.drawn(task.num_classes)
        seconds = _seconds(session, recipe, task, distill_load(recipe, task), min(d.student.batch, drawn))
        detail = f"{d.ipc * task.num_classes} images, {d.rounds} rounds on {drawn} of them"
        steps.append(PlanStep("distill", detail, seconds))
    return steps


def _seconds(session: Session, recipe: Recipe, task: Task, load: Load, batch: int) -> float:
    runtime = session.runtime.for_load(load)
    fixed = _COMPILE_SECONDS if runtime.compile else 0.0
    return fixed + load.flops / rate(recipe.model, task, batch, runtime, recipe.precision)
