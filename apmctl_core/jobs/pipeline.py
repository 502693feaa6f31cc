"""From a recipe to artifacts: what is there already is reused, what is missing is made, each by one stage.

This is where stages and the store meet. The stages take values and give values; reuse, resuming and publishing are
decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apmctl_core import data as datasets
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.keeper import WorkspaceKeeper
from apmctl_core.artifacts.kinds.pools import load_pool, save_pool
from apmctl_core.artifacts.kinds.reports import load_report, save_report
from apmctl_core.artifacts.kinds.sets import load_set, save_set
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.artifacts.store import Store
from apmctl_core.artifacts.workspace import Workspace
from apmctl_core.config import ApmConfig, DataConfig, ModelConfig, Recipe, from_dict, to_dict
from apmctl_core.data import Dataset
from apmctl_core.data.preprocessing import fit
from apmctl_core.data.sampling import stratified_sample
from apmctl_core.errors import ArtifactError, MismatchError
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.events import Emit, Event, Note, Progress, silent
from apmctl_core.formats.preview import preview_png
from apmctl_core.jobs import footprint
from apmctl_core.jobs.recipes import (
    Job,
    check_pool,
    data_name,
    evaluation,
    models_of,
    pool_job,
    recipe_of,
    set_job,
    settle,
)
from apmctl_core.jobs.workload import Task, distill_load, evaluate_load, label_load, task_of, teacher_load
from apmctl_core.machine import interrupts, memory
from apmctl_core.machine.runtime import Runtime, environment
from apmctl_core.machine.segment import Load, Segment
from apmctl_core.models.registry import state_shapes
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.stages.labelling import KeptLabels, Labeller, draws_of, random_baseline
from apmctl_core.stages.teachers import train_teachers
from apmctl_core.storage.files import require_space
from apmctl_core.training.checkpoint import Keeper, Snapshot
from apmctl_core.values import DistilledSet, TeacherPool


@dataclass(frozen=True, kw_only=True)
class Session:
    """Where to keep things and how to compute; what all commands share."""

    store: Store
    runtime: Runtime
    data_path: Path | None = None
    emit: Emit = silent
    wait: bool = True

    def find(self, ref: str, kind: str) -> Artifact:
        """The artifact that a user names: in the store, in a folder, or on the Hub, whence it is pulled."""
        from apmctl_core.hub.references import find

        return find(self.store, ref, kind, wait=self.wait, emit=self.emit)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An artifact that a command made or found; seconds and bytes are those of this command, not of the artifact."""

    artifact: Artifact
    reused: bool
    metrics: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float
    peak_memory_bytes: int


# --- the commands ------------------------------------------------------------------------------------------------


def train_pool(session: Session, recipe: Recipe, *, name: str | None = None) -> Outcome:
    """The pool of teachers of a recipe, found or trained. Raises what loading data and training raise."""
    dataset, recipe = prepare(session, recipe)
    return _pool(session, recipe, dataset, name)


def _pool(session: Session, recipe: Recipe, dataset: Dataset, name: str | None = None) -> Outcome:
    job = pool_job(recipe, dataset.fingerprint, name)
    _require_memory(session, (job, teacher_load(recipe, task_of(dataset))))
    _require_space(session, (job, footprint.pool_bytes(recipe, task_of(dataset))))
    return _run(session, job, lambda work: _make_pool(session, recipe, dataset, work))


def distill_set(session: Session, recipe: Recipe, *, pool: str | None = None, name: str | None = None) -> Outcome:
    """The distilled set of a recipe, found or made; its pool is the one named, else found or trained.

    Raises MismatchError where the named pool is of other data, another network or another preprocessing.
    """
    dataset, recipe = prepare(session, recipe)
    check_ipc(dataset, recipe)
    given = session.find(pool, "pool") if pool else None
    if given is not None:
        check_pool(given, recipe, dataset.fingerprint)
    teaching = pool_job(recipe, dataset.fingerprint)
    pool_id = given.id if given else teaching.id
    job = set_job(recipe, dataset.fingerprint, pool_id, name)
    needed = (job, footprint.set_bytes(recipe, task_of(dataset)))
    # Teachers are trained before the set is begun, and not at all for a set that is there.
    teachers = given
    if teachers is None and session.store.get("set", job.id) is None:
        _require_memory(session, (job, distill_load(recipe, task_of(dataset))))
        _require_space(session, needed, (teaching, footprint.pool_bytes(recipe, task_of(dataset))))
        teachers = _pool(session, recipe, dataset).artifact
    _require_space(session, needed)

    def make(work: _Work) -> Manifest:
        return _make_set(recipe, dataset, teachers or session.store.find(pool_id, "pool"), work)

    return _run(session, job, make)


def relabel_set(
    session: Session, ref: str, *, pool: str | None = None, committee: str = "mean", name: str | None = None
) -> Outcome:
    """A new set with the images of another and the logits of a pool (that of the set, if none is named).

    Raises MismatchError where the pool is of other data or another preprocessing.
    """
    source = session.find(ref, "set")
    own = source.manifest.inputs.get("pool")
    if pool is None and own is None:
        raise ArtifactError(f"{source.ref} does not say which pool it was made with", "name one with --teachers POOL")
    # What a manifest names is looked for in the store alone: it may be a stranger's.
    teachers = session.find(pool, "pool") if pool else session.store.find(str(own), "pool")
    recipe = recipe_of(source)
    fingerprint = source.manifest.data["fingerprint"]
    check_pool(teachers, replace(recipe, model=recipe_of(teachers).model), fingerprint)
    recipe = from_dict(Recipe, {"distill": {"committee": committee}}, recipe)
    config = {"committee": committee, "seed": recipe.seed, "precision": recipe.precision}
    inputs = {"data": fingerprint, "pool": teachers.id, "set": source.id}
    default = f"{source.name[:90]}-relabel"
    job = Job("set", default if name is None else name, config, inputs, recipe, name is not None)
    task = Task(source.manifest.shape, len(source.manifest.classes), 0, 0)
    _require_space(session, (job, footprint.set_bytes(recipe, task)))
    return _run(session, job, lambda work: _make_relabelled(session, source, recipe, teachers, work))


def evaluate_set(session: Session, ref: str, changes: dict[str, Any]) -> Outcome:
    """The report on a set, found or measured. `changes` are fields of EvalConfig, `seed`, `width` and `precision`.

    Raises MismatchError where the data at hand is not what the set was distilled from.
    """
    distilled = session.find(ref, "set")
    recipe = evaluation(recipe_of(distilled), changes, distilled, session.runtime)
    models = models_of(recipe, distilled.manifest.shape, len(distilled.manifest.classes))
    protocol = to_dict(replace(recipe.evaluate, arch=tuple(m.arch for m in models)))
    config = {"evaluate": protocol, "width": recipe.model.width, "seed": recipe.seed, "precision": recipe.precision}
    inputs = {"data": distilled.manifest.data["fingerprint"], "set": distilled.id}
    job = Job("report", f"{distilled.name[:90]}-eval", config, inputs, recipe)
    _require_space(session, (job, footprint.report_bytes()))
    outcome = _run(session, job, lambda work: _make_report(session, distilled, recipe, models, work))
    report = load_report(outcome.artifact)
    return replace(outcome, metrics={"set": distilled.ref, "results": report["results"]})


# --- data ------------------------------------------------------------------------------------------------------------


def prepare(session: Session, recipe: Recipe) -> tuple[Dataset, Recipe]:
    """The data of a recipe, and the recipe with everything settled that data and device decide."""
    dataset = load_data(session, recipe.data)
    return dataset, settle(recipe, dataset.shape, dataset.num_classes, session.runtime)


def load_data(session: Session, config: DataConfig, fingerprint: str | None = None) -> Dataset:
    """The data set of a config, from the cache or decoded into it; with `fingerprint`, that very data.

    Raises DataError, NetworkError; MismatchError where what is found has another fingerprint.
    """
    cache = session.store.cache
    if fingerprint and session.data_path is None:
        found = datasets.find_fingerprint(fingerprint, cache, name=config.dataset)
        if found is not None:
            return found
    name, path = config.dataset, session.data_path
    if fingerprint and path is not None and name not in datasets.KNOWN:
        name, path = str(path), None  # a recipe has the name of a folder, not where it lies
    dataset = datasets.load(name, cache, path=path, resolution=config.resolution, emit=session.emit)
    if fingerprint and dataset.fingerprint != fingerprint:
        raise MismatchError(
            f"{config.dataset} as it is here is not the data that the set was made from",
            "give the same files with --data",
        )
    return dataset


def check_ipc(dataset: Dataset, recipe: Recipe) -> None:
    """Refuse an IPC that the smallest class cannot serve, before any teacher is trained."""
    stratified_sample(dataset.train.labels, recipe.distill.ipc, np.random.default_rng(0), dataset.classes)


# --- running a job -----------------------------------------------------------------------------------------------


class _Work:
    """A job's workspace as the stages see it: a keeper of states, and a history of events."""

    def __init__(self, session: Session, job: Job, workspace: Workspace) -> None:
        self.job = job
        self.workspace = workspace
        self.keeper: Keeper = WorkspaceKeeper(workspace)
        self._session = session
        # A resumed run has taken the time of the processes before this one, too.
        self._began = time.monotonic() - workspace.logged("seconds")

    def emit(self, event: Event) -> None:
        """Show an event and write it into the history of the run. Raises Interrupted where that was lost before."""
        if isinstance(event, Progress):
            interrupts.check()
            record = {"stage": event.stage, "done": event.done, "total": event.total, **event.metrics}
        else:
            record = {"note": event.text, "level": event.level}
        self.workspace.log({"seconds": self.seconds(), **record})
        self._session.emit(event)

    def runtime(self, load: Load) -> Runtime:
        """How to compute a stage; from now on its states hold the segments that they were computed with."""
        runtime = replace(self._session.runtime, emit=self.emit).for_load(load)
        self.keeper = _Segmented(WorkspaceKeeper(self.workspace), runtime.segment)
        return runtime

    def seconds(self) -> float:
        """Seconds of work so far, in this process and in those that it goes on from."""
        return round(time.monotonic() - self._began, 3)


class _Segmented:
    """A keeper whose states say how short batches were cut, so that a resumed run ends at the same bytes."""

    def __init__(self, keeper: Keeper, segment: Segment) -> None:
        self._keeper = keeper
        self._segment = segment

    def load(self, name: str) -> Snapshot | None:
        kept = self._keeper.load(name)
        if kept is not None:
            self._segment.resume(kept.meta.get("segment", 0))
        return kept

    def save(self, name: str, snapshot: Snapshot) -> None:
        meta = {**snapshot.meta, "segment": self._segment.limit}
        self._keeper.save(name, Snapshot(snapshot.tensors, meta))

    def clear(self, name: str) -> None:
        self._keeper.clear(name)


def _require_memory(session: Session, *needed: tuple[Job, Load]) -> None:
    """Raise ConfigError for a memory budget that a job which is yet to be done cannot keep."""
    for job, load in needed:
        if session.store.get(job.kind, job.id) is None:
            session.runtime.segment.require(session.runtime.whole(load), session.runtime.device)


def _require_space(session: Session, *needed: tuple[Job, int]) -> None:
    """Raise StoreError where the disk has no room for what jobs, beside the bytes they take, have yet to write."""
    store = session.store
    missing = [size - store.kept_bytes(job.kind, job.id) for job, size in needed if not store.get(job.kind, job.id)]
    if missing:
        require_space(store.root, sum(max(0, size) for size in missing))


def _run(session: Session, job: Job, make: Callable[[_Work], Manifest]) -> Outcome:
    """Find the artifact of a job, or make it: `make` fills the workspace and returns the manifest's draft."""
    began = time.monotonic()

    def outcome(artifact: Artifact, reused: bool) -> Outcome:
        return Outcome(
            artifact=artifact,
            reused=reused,
            metrics=dict(artifact.manifest.metrics),
            elapsed_s=round(time.monotonic() - began, 3),
            peak_memory_bytes=memory.peak(session.runtime.device),
        )

    found = session.store.get(job.kind, job.id)
    if found is not None:
        session.store.tidy(job.kind, job.id)
        if job.named and found.name != job.name:
            session.emit(Note(text=f"{found.ref} is there already and keeps its name", level="warning"))
        return outcome(found, True)
    with session.store.workspace(job.kind, job.name, job.id, wait=session.wait, emit=session.emit) as workspace:
        if workspace.existing is not None:
            return outcome(workspace.existing, True)
        if workspace.resumed:
            session.emit(Note(text=f"going on with the unfinished {job.kind} {job.name}@{job.id}"))
        draft = make(_Work(session, job, workspace))
        return outcome(workspace.publish(draft), False)


# --- what the jobs make ------------------------------------------------------------------------------------------


def _make_pool(session: Session, recipe: Recipe, dataset: Dataset, work: _Work) -> Manifest:
    runtime = work.runtime(teacher_load(recipe, task_of(dataset)))
    pool, metrics = train_teachers(
        dataset,
        fit(dataset, recipe.data.preprocessing, session.store.cache),
        recipe.model,
        recipe.teachers,
        stream=Stream(recipe.seed).at("teachers"),
        runtime=runtime,
        precision=recipe.precision,
        keeper=work.keeper,
        emit=work.emit,
    )
    save_pool(work.workspace.path, pool)
    return _draft(work, runtime, _about(dataset), metrics)


def _make_set(recipe: Recipe, dataset: Dataset, teachers: Artifact, work: _Work) -> Manifest:
    assert isinstance(recipe.distill, ApmConfig)
    pool = load_pool(teachers, state_shapes)
    runtime = work.runtime(distill_load(recipe, task_of(dataset)))
    images, labels, metrics = distill(
        dataset,
        pool,
        recipe.distill,
        stream=Stream(recipe.seed).at("distill"),
        runtime=runtime,
        precision=recipe.precision,
        keeper=work.keeper,
        emit=work.emit,
    )
    return _finish_set(work, runtime, recipe, pool, dataset, images, labels, metrics)


def _make_relabelled(session: Session, source: Artifact, recipe: Recipe, teachers: Artifact, work: _Work) -> Manifest:
    dataset = load_data(session, recipe.data, source.manifest.data["fingerprint"])
    original = load_set(source)
    labelling = replace(recipe, model=recipe_of(teachers).model)
    runtime = work.runtime(label_load(labelling, task_of(dataset)))
    return _finish_set(
        work, runtime, recipe, load_pool(teachers, state_shapes), dataset, original.images, original.labels, {}
    )


def _finish_set(
    work: _Work,
    runtime: Runtime,
    recipe: Recipe,
    pool: TeacherPool,
    dataset: Dataset,
    images: Tensor,
    labels: Tensor,
    metrics: dict[str, float],
) -> Manifest:
    """Label images and as many random real ones, and write the set."""
    stream = Stream(recipe.seed).at("relabel")
    eager = replace(runtime, compile=False)
    labeller = Labeller(pool, recipe.distill.committee, stream=stream, runtime=eager, precision=recipe.precision)
    total = len(images) * (1 + draws_of(recipe.distill.ipc, dataset.num_classes))
    label = KeptLabels(labeller, work.keeper, total, work.emit)
    distilled = DistilledSet(
        images=images,
        logits=label(images),
        labels=labels,
        stage=torch.zeros_like(labels),
        classes=dataset.classes,
        preprocessing=pool.preprocessing,
        baseline=random_baseline(dataset, recipe.distill.ipc, label, pool, stream),
    )
    save_set(work.workspace.path, distilled)
    work.workspace.write("preview.png", preview_png(distilled))
    found = metrics | {"images": len(images), "committee": recipe.distill.committee}
    return _draft(work, runtime, _about(dataset), found | {"labelling_teachers": labeller.teachers})


def _make_report(
    session: Session, distilled: Artifact, recipe: Recipe, models: list[ModelConfig], work: _Work
) -> Manifest:
    dataset = load_data(session, recipe.data, distilled.manifest.data["fingerprint"])
    values: DistilledSet = load_set(distilled)
    runtime = work.runtime(evaluate_load(recipe, models, len(values.images), task_of(dataset)))
    rows = evaluate(
        values,
        dataset,
        models,
        recipe.evaluate,
        stream=Stream(recipe.seed).at("evaluate"),
        runtime=runtime,
        precision=recipe.precision,
        keeper=work.keeper,
        emit=work.emit,
    )
    save_report(work.workspace.path, {"set": distilled.ref, "results": [row.as_dict() for row in rows]})
    return _draft(work, runtime, distilled.manifest.data, {})


def _about(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": data_name(dataset.name),
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
    }


def _draft(work: _Work, runtime: Runtime, about: dict[str, Any], metrics: dict[str, Any]) -> Manifest:
    """The manifest of what a job has made, save the list of its files."""
    job = work.job
    return Manifest(
        kind=job.kind,
        id=job.id,
        name=job.name,
        recipe=to_dict(job.recipe),
        config=job.config,
        inputs=job.inputs,
        data=about,
        metrics=metrics | {"seconds": work.seconds(), "peak_memory_bytes": memory.peak(runtime.device)},
        environment=environment(runtime) | {"seed": job.recipe.seed, "created": _now()},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
