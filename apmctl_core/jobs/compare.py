"""Sets beside each other: a report on each, all by the recipe of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apmctl_core.artifacts import Artifact, differences
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.config import EvalConfig, Recipe, flat, subtree, to_dict
from apmctl_core.errors import ConfigError, MismatchError
from apmctl_core.events import Note
from apmctl_core.jobs.commands import evaluate_set, report_job
from apmctl_core.jobs.job import Outcome
from apmctl_core.jobs.recipes import evaluation, recipe_of
from apmctl_core.jobs.report import ReportJob
from apmctl_core.jobs.session import Session


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Sets in the order in which they were named, and the outcome of the evaluation of each."""

    sets: tuple[Artifact, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def rows(self) -> list[tuple[ReportRow, ...]]:
        """For each network and kind of labels the rows of all sets."""
        return list(zip(*(outcome.metrics["results"] for outcome in self.outcomes), strict=True))

    @property
    def differences(self) -> dict[str, list[Any]]:
        """What the sets were made by and from that is not the same in all, by its dotted path.

        Their own settings for evaluations are left out: all were measured by those of the first.
        """
        fields = differences.origins([artifact.manifest for artifact in self.sets])
        return {field: values for field, values in fields.items() if not field.startswith("recipe.evaluate.")}


def compare_sets(session: Session, refs: Sequence[str], changes: dict[str, Any]) -> Comparison:
    """The reports on several sets, each reused or measured, by the recipe of the first with `changes`.

    These are as in `evaluate_set`. Raises, before anything is trained, ConfigError for fewer than two sets or for one
    that is named twice, MismatchError for a set of other data than the first.
    """
    if len(refs) < 2:
        raise ConfigError("a comparison needs two sets or more", "name another one, or measure this one with `eval`")
    sets = [session.find(ref, "set") for ref in refs]
    _check(sets)
    paths = [str(each.path.absolute()) for each in sets]  # a reference could mean something newer in an hour
    recipe = report_job(session, paths[0], changes).recipe
    settings = [_settings(recipe, recipe_of(artifact)) for artifact in sets]
    jobs = [report_job(session, path, each) for path, each in zip(paths, settings, strict=True)]
    _tell_settings(session, sets, changes)
    outcomes = []
    for number, job in enumerate(jobs):
        existing = job.existing(session)
        doing = f"reusing report {existing.ref} on" if existing else "evaluating"
        session.emit(Note(text=f"{doing} {sets[number].ref} ({number + 1} of {len(sets)})"))
        outcomes.append(evaluate_set(session, paths[number], settings[number]))
    return Comparison(sets=tuple(sets), outcomes=tuple(outcomes))


def _check(sets: Sequence[Artifact]) -> None:
    """Raise unless the sets are different ones of the same data: images, classes and test split."""
    first = sets[0]
    for number, artifact in enumerate(sets):
        if artifact.id in (other.id for other in sets[:number]):
            raise ConfigError(f"{artifact.ref} is named twice", "name each set once")
        if artifact.manifest.data["fingerprint"] != first.manifest.data["fingerprint"]:
            raise MismatchError(
                f"{artifact.ref} cannot be compared with {first.ref}: {_mismatch(artifact, first)}",
                "compare sets of the same data, at one resolution and with one test split",
            )


def _mismatch(artifact: Artifact, first: Artifact) -> str:
    """What is different in the data of two sets, in a few words."""
    manifests = (artifact.manifest, first.manifest)
    own, other = (m.data for m in manifests)
    if own["dataset"] != other["dataset"]:
        return f"it is of {own['dataset']}, not of {other['dataset']}"
    if own["shape"] != other["shape"]:
        shape, first_shape = (" x ".join(map(str, data["shape"])) for data in (own, other))
        return f"its images are {shape}, not {first_shape}"
    if own["classes"] != other["classes"]:
        count, first_count = (len(data["classes"]) for data in (own, other))
        return f"it has {count} classes, not {first_count}" if count != first_count else "its classes are others"
    if own.get("split") != other.get("split"):
        return f"it is tested on {own.get('split', 'another split')}, not on {other.get('split', 'the same')}"
    return f"its images of {own['dataset']} are others"


def _settings(recipe: Recipe, own: Recipe) -> dict[str, Any]:
    """All of a recipe that decides a report, as changes that leave nothing to the recipe of a set of its own."""
    values = dict.fromkeys(EvalConfig.fields()) | to_dict(recipe.evaluate)  # what is off is None
    if recipe.evaluate.whole and own.teachers.epochs != recipe.teachers.epochs:
        values["whole_epochs"] = recipe.evaluate.whole_epochs or recipe.teachers.epochs
    return {**values, "width": recipe.model.width, "seed": recipe.seed, "precision": recipe.precision}


def _tell_settings(session: Session, sets: Sequence[Artifact], changes: dict[str, Any]) -> None:
    """Say which settings of the first set stand over those that the others would be evaluated with."""
    tables = []
    for artifact in sets:
        shape, classes = artifact.manifest.shape, len(artifact.manifest.classes)
        recipe = evaluation(recipe_of(artifact), changes, shape, classes, session.runtime)
        tables.append(dict(flat(subtree(to_dict(recipe), ReportJob.covers))))
    if fields := differences.apart(differences.different(tables)):
        session.emit(Note(text=f"evaluating all sets with the settings of {sets[0].ref}: {', '.join(fields)}"))
