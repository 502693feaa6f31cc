"""From what a user asks for to jobs, and from jobs to artifacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apmctl_core import data as datasets
from apmctl_core.artifacts import Artifact
from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.config import EvalConfig, Recipe, from_dict
from apmctl_core.config.recipe import NO_TEST
from apmctl_core.data import Dataset, require_images
from apmctl_core.errors import ArtifactError, ConfigError, DataError
from apmctl_core.jobs.coreset import CoresetJob
from apmctl_core.jobs.job import Located, Outcome, run
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.jobs.recipes import check_pool, evaluation, recipe_of, settle
from apmctl_core.jobs.report import ReportJob
from apmctl_core.jobs.requests import asked, located
from apmctl_core.jobs.session import Session
from apmctl_core.jobs.set import RelabelJob, SetJob
from apmctl_core.jobs.whole import WholeJob
from apmctl_core.models import size_of
from apmctl_core.values import Task

if TYPE_CHECKING:
    from apmctl_core.hub.push import Pushed


def train_pool(session: Session, recipe: Recipe, *, name: str | None = None) -> Outcome:
    """The pool of teachers of a recipe, reused or trained. Raises what loading data and training raise."""
    job = pool_job(session, recipe, session.load(recipe.data), name=name)
    return run(asked(session, "teachers", job, recipe=located(recipe, job)), job)


def distill_set(session: Session, recipe: Recipe, *, pool: str | None = None, name: str | None = None) -> Outcome:
    """The distilled set of a recipe, reused or made; its pool is the one named, else reused or trained.

    Raises MismatchError where the named pool is of other data, another network or another preprocessing.
    """
    job = set_job(session, recipe, session.load(recipe.data), pool=pool, name=name)
    return run(asked(session, "distill", job, recipe=located(recipe, job)), job)


def relabel_set(
    session: Session, ref: str, *, pool: str | None = None, committee: str = "mean", name: str | None = None
) -> Outcome:
    """A new set with the images of another and the logits of a pool (that of the set, if none is named).

    Raises MismatchError where the pool is of other data or another preprocessing.
    """
    job = relabel_job(session, ref, pool=pool, committee=committee, name=name)
    return run(asked(session, "relabel", job, committee=committee), job)


def evaluate_set(session: Session, ref: str, changes: dict[str, Any]) -> Outcome:
    """The report on a set, reused or measured. `changes` are fields of EvalConfig, `seed`, `width` and `precision`.

    Raises MismatchError where the data at hand is not what the set was distilled from.
    """
    job = report_job(session, ref, changes)
    if session.test_path is not None:  # other images than those of a report that exists must not go unnoticed
        session.load(job.recipe.data, job.fingerprint)
    outcome = run(asked(session, "eval", job, changes=changes), job)
    return replace(outcome, metrics={"set": job.distilled.ref, "results": load_report(outcome.artifact).rows})


def release(
    session: Session, recipe: Recipe, repo: str, *, pool: str | None = None, name: str | None = None
) -> tuple[Outcome, Outcome, Pushed]:
    """The set of a recipe, its report by that recipe, and what was pushed. Raises what the three steps raise.

    The right to write to the repository is checked before the work begins.
    """
    from apmctl_core.hub.push import preflight, push

    if recipe.data.test_split == NO_TEST:
        raise ConfigError("without a test split there are no accuracies to push", "push the finished set with `push`")
    preflight("set", repo, session.emit)
    distilled = distill_set(session, recipe, pool=pool, name=name)
    report = evaluate_set(session, distilled.artifact.ref, {})
    distilled = replace(distilled, stages=distilled.stages + report.stages)
    return distilled, report, push(session.store, distilled.artifact, repo, emit=session.emit)


def pool_job(session: Session, recipe: Recipe, dataset: Dataset | None, *, name: str | None = None) -> PoolJob:
    """The job of a recipe's pool; without data, of a known data set that is not at hand yet."""
    recipe, task = _settled(session, recipe, dataset)
    return PoolJob(recipe=recipe, task=task, fingerprint=dataset.fingerprint if dataset else "", name=name)


def set_job(
    session: Session, recipe: Recipe, dataset: Dataset | None, *, pool: str | None = None, name: str | None = None
) -> SetJob:
    """The job of a recipe's set, with the pool named or the job of its own.

    Raises DataError for an IPC that the smallest class cannot serve, before any teacher is trained.
    """
    teaching = pool_job(session, recipe, dataset)
    recipe, fingerprint = teaching.recipe, teaching.fingerprint
    if dataset is not None:
        require_images(dataset.train.labels, recipe.distill.ipc, dataset.classes)
    given = session.find(pool, "pool") if pool else None
    if given is not None:
        check_pool(given, recipe, fingerprint or given.manifest.data["fingerprint"])
    source = Located.of(given) if given else teaching
    return SetJob(recipe=recipe, task=teaching.task, fingerprint=fingerprint, name=name, pool=source)


def relabel_job(session: Session, ref: str, *, pool: str | None, committee: str, name: str | None) -> RelabelJob:
    """The job of new labels for a set. Raises ArtifactError where the set does not say what pool it was made with."""
    source = session.find(ref, "set")
    own = source.manifest.inputs.get("pool")
    if pool is None and own is None:
        raise ArtifactError(f"{source.ref} does not say which pool it was made with", "name one with `pool`")
    # What a manifest names is looked for in the store alone: it may be a stranger's.
    teachers = session.find(pool, "pool") if pool else session.store.find(str(own), "pool")
    recipe, network = recipe_of(source), recipe_of(teachers).model
    check_pool(teachers, replace(recipe, model=network), source.manifest.data["fingerprint"])
    recipe = from_dict(Recipe, {"distill": {"committee": committee}}, recipe)
    task = _task_of(source, recipe)
    return RelabelJob(
        recipe=recipe,
        task=task,
        fingerprint=source.manifest.data["fingerprint"],
        name=name,
        pool=Located.of(teachers),
        source=Located.of(source),
        labellers=size_of(network, task.shape, task.num_classes),
    )


def report_job(session: Session, ref: str, changes: dict[str, Any]) -> ReportJob:
    """The job of a report on a set, under its own recipe with changes."""
    source = session.find(ref, "set")
    manifest = source.manifest
    if manifest.data.get("split") == NO_TEST:
        raise DataError(
            f"{source.ref} was distilled from data without a test split: there is nothing to test on",
            "`distill` it again with a test split",
        )
    recipe = evaluation(recipe_of(source), changes, manifest.shape, len(manifest.classes), session.runtime)
    networks = recipe.evaluate.arch if recipe.evaluate.whole else ()
    return ReportJob(
        recipe=recipe,
        task=_task_of(source, recipe),
        fingerprint=manifest.data["fingerprint"],
        distilled=Located.of(source),
        coresets=tuple(coreset_job(session, source, name) for name in recipe.evaluate.baseline),
        wholes=tuple(whole_job(source, recipe, arch) for arch in networks),
    )


def whole_job(source: Artifact, recipe: Recipe, arch: str) -> WholeJob:
    """The job of networks trained on all the data of a set, by the recipe of the set's evaluation.

    What that measures of the set alone is left out of the recipe, so that sets of the same data share it.
    """
    e = recipe.evaluate
    alone = EvalConfig.fields()
    left = {
        name: alone[name].default for name in ("baseline", "interval", "rates", "whole", "whole_epochs", "unaugmented")
    }
    evaluate = replace(e, arch=(arch,), labels=("hard",), epochs=e.whole_epochs or recipe.teachers.epochs, **left)
    recipe = replace(recipe, evaluate=evaluate, model=replace(recipe.model, arch=arch))
    return WholeJob(recipe=recipe, task=_task_of(source, recipe), fingerprint=source.manifest.data["fingerprint"])


def coreset_job(session: Session, source: Artifact, name: str) -> CoresetJob:
    """The job of as many real images as a set has, chosen in the way of that name, under the set's kind of labels.

    Raises ArtifactError where the store lacks the pool that labelled the set.
    """
    recipe, own = recipe_of(source), source.manifest.inputs.get("pool")
    if own is None:
        raise ArtifactError(f"{source.ref} does not say which pool labelled it", "leave `evaluate.baseline` out")
    pool = session.store.find(str(own), "pool")
    recipe = from_dict(Recipe, {"evaluate": {"baseline": [name]}}, recipe)
    task = _task_of(source, recipe)
    return CoresetJob(
        recipe=recipe,
        task=task,
        fingerprint=source.manifest.data["fingerprint"],
        pool=Located.of(pool),
        looks=size_of(recipe_of(pool).model, task.shape, task.num_classes),
    )


def _settled(session: Session, recipe: Recipe, dataset: Dataset | None) -> tuple[Recipe, Task]:
    """A recipe with all decided that data and device decide, and its task."""
    if dataset is not None:
        shape, num_classes, train, test = dataset.shape, dataset.num_classes, len(dataset.train), len(dataset.test)
    else:
        spec, side = datasets.KNOWN[recipe.data.dataset], recipe.data.resolution
        channels, height, width = spec.shape
        shape = (channels, side or height, side or width)
        num_classes, train, test = spec.num_classes, spec.train, spec.test
    recipe = settle(recipe, shape, num_classes, session.runtime, dataset)
    return recipe, Task(shape, num_classes, recipe.data.preprocessing, recipe.precision, train, test)


def _task_of(artifact: Artifact, recipe: Recipe) -> Task:
    """The task of an artifact, whose manifest does not say how many images the data set has."""
    manifest = artifact.manifest
    return Task(manifest.shape, len(manifest.classes), recipe.data.preprocessing, recipe.precision)
