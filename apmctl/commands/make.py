"""`apmctl teachers`, `distill`, `relabel` and `eval`: the commands that make artifacts, and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import typer

from apmctl import fields
from apmctl.blocks import Block, Pairs, Table
from apmctl.commands.hub import Location
from apmctl.errors import FAILED, translate
from apmctl.fields import Settings
from apmctl.options import (
    DATASET,
    DRY_RUN,
    MACHINE,
    MACHINE_OF_REPORT,
    MACHINE_OF_SET,
    NAME,
    OUTPUT,
    OUTPUT_PANEL,
    POOL,
    SET,
    OpenSession,
)
from apmctl.output import Result, Sink
from apmctl.progress import Lines
from apmctl.results import Document, Judged, Product, Timed, accuracies, flat, readings
from apmctl.signature import option, takes
from apmctl.text import about, size, span
from apmctl.thresholds import THRESHOLDS, Thresholds
from apmctl_core.config import to_dict

if TYPE_CHECKING:
    from apmctl_core.jobs import Advice, Outcome, Plan, PlanStep


class _OfMade(Document):
    command: str
    artifact: Product
    metrics: Mapping[str, Any]


class Made(Timed, _OfMade):
    """An artifact and what it took; seconds and bytes count this command only. `verdict`: what is wrong with a set."""

    verdict: str | None = None

    @classmethod
    def by(cls, command: str, outcome: Outcome, **more: Any) -> Self:
        """What `command` made; `more` are the fields that a subclass adds."""
        from apmctl_core.evaluation.verdict import unmoved

        problem = unmoved(outcome.metrics)
        more["verdict"] = problem and translate(problem, command)
        return cls.of(outcome, command=command, artifact=Product.of(outcome.artifact, reused=outcome.reused), **more)

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        preview = self.artifact.path / "preview.png"
        paths = [("path", self.artifact.path)] + ([("preview", preview)] if preview.is_file() else [])
        yield self.artifact.headline
        yield Pairs([*paths, *readings(self.metrics)])
        if self.verdict and self.artifact.reused:  # who makes a set is warned by the engine
            yield self.verdict
        yield from self.cost()


class Released(Made):
    """A set that was made, evaluated and pushed."""

    results: Sequence[Judged]
    hub: Location

    def blocks(self) -> Iterator[Block]:
        yield from super().blocks()
        yield from accuracies(self.results)
        yield self.hub.pairs()


class EvaluationReport(Product):
    """A report; `set` is the set that was evaluated."""

    set: str | None


class _OfEvaluated(Document):
    command: str = "eval"
    artifact: EvaluationReport
    results: Sequence[Judged]


class Evaluated(Timed, _OfEvaluated):
    """Accuracies: a row for each network and kind of labels."""

    @classmethod
    def by(cls, outcome: Outcome) -> Self:
        """The result of an evaluation."""
        report = EvaluationReport.of(outcome.artifact, reused=outcome.reused, set=outcome.metrics["set"])
        return cls.of(outcome, artifact=report, results=list(map(Judged, outcome.metrics["results"])))

    def brief(self) -> str:
        return "\n".join(f"{judged.row.accuracy_mean:.4f}" for judged in self.results)

    def blocks(self) -> Iterator[Block]:
        yield self.artifact.headline
        yield from accuracies(self.results)
        yield from self.cost()


class Planned(Document):
    """What a command would do: the settled recipe, the steps, time and memory; no `id` while the data is unknown."""

    command: str
    dry_run: bool = True
    id: str | None
    exists: bool
    settings_from: str
    recipe: Mapping[str, Any]
    steps: Sequence[PlanStep]
    seconds: float
    memory_bytes: int
    disk_bytes: int
    segment: int
    test_split: str | None = None
    seconds_low: float = 0.0
    seconds_high: float = 0.0
    busy: bool = False
    other_cores: float = 0.0
    advice: Sequence[Advice] = ()

    @classmethod
    def by(cls, plan: Plan, origin: str) -> Self:
        """A plan for a recipe that began as `origin`."""
        advice = [replace(each, what=translate(each.what, plan.command)) for each in plan.advice]
        return cls.of(plan, settings_from=origin, recipe=to_dict(plan.recipe), advice=advice)

    def brief(self) -> str:
        return self.id or ""

    def blocks(self) -> Iterator[Block]:
        yield f"dry run of {self.command}; settings: {self.settings_from}"
        yield Pairs(flat(self.recipe))
        if self.test_split:
            yield f"test split: {self.test_split}"
        yield f"id {self.id or 'unknown until the data is available'}"
        if self.exists:
            yield "exists; would be reused"
            return
        times = [span(step.seconds_low, step.seconds_high) if step.seconds else "-" for step in self.steps]
        rows = [(step.name, step.detail, time) for step, time in zip(self.steps, times, strict=True)]
        yield Table(("step", "what", "time"), rows, wrap=("what",))
        memory, disk = size(self.memory_bytes), size(self.disk_bytes)
        yield f"{span(self.seconds_low, self.seconds_high)} and {memory} of memory on this machine"
        yield f"{disk} of disk, at most {self.segment} images per pass"
        if self.busy:
            yield f"others use {self.other_cores:.1f} cores: the longer time is for a machine that stays so busy"
        yield from (f"instead, {a.what}: {about(a.seconds)}" for a in self.advice)


@takes(DATASET, fields.settings(fields.TEACHERS), MACHINE, OUTPUT, NAME, DRY_RUN)
def teachers(
    dataset: str | None, name: str | None, dry_run: bool, settings: Settings, open_session: OpenSession, out: Sink
) -> None:
    """Train a pool of teachers on a data set, or reuse the one that exists."""
    recipe, origin = settings.recipe(dataset, Lines(out))
    with open_session(out) as session:
        from apmctl_core import jobs

        result: Result
        if dry_run:
            result = Planned.by(jobs.plan(session, recipe, "teachers", name=name), origin)
        else:
            result = Made.by("teachers", jobs.train_pool(session, recipe, name=name))
    out.result(result)


_PUSH_HELP = "Evaluate the finished set, and push it to the Hub with its accuracies."
_PUSH = option(OUTPUT_PANEL, "--push", str | None, _PUSH_HELP, metavar="OWNER/NAME")


@takes(DATASET, fields.settings(fields.DISTILL), MACHINE, OUTPUT, POOL, NAME, DRY_RUN, _PUSH)
def distill(
    dataset: str | None,
    teachers: str | None,
    name: str | None,
    dry_run: bool,
    push: str | None,
    settings: Settings,
    open_session: OpenSession,
    out: Sink,
) -> None:
    """Distil a data set into a few synthetic images per class; trains or reuses a pool if none is given."""
    recipe, origin = settings.recipe(dataset, Lines(out))
    with open_session(out) as session:
        from apmctl_core import jobs

        result: Result
        if dry_run:
            result = Planned.by(jobs.plan(session, recipe, "distill", pool=teachers, name=name), origin)
        elif push is not None:
            outcome, report, pushed = jobs.release(session, recipe, push, pool=teachers, name=name)
            result = Released.by(
                "distill", outcome, results=list(map(Judged, report.metrics["results"])), hub=Location.by(pushed)
            )
        else:
            result = Made.by("distill", jobs.distill_set(session, recipe, pool=teachers, name=name))
    out.result(result)


Committee = StrEnum("Committee", ["mean", "single"])
_COMMITTEE_HELP = "Who labels: the mean of all teachers, or one."
_COMMITTEE = option(None, "--committee", Committee, _COMMITTEE_HELP, Committee.mean, metavar="mean|single")


@takes(SET, MACHINE_OF_SET, OUTPUT, _COMMITTEE, POOL, NAME)
def relabel(
    ref: str, committee: Committee, teachers: str | None, name: str | None, open_session: OpenSession, out: Sink
) -> None:
    """Give the images of a set new logits, from its own pool of teachers or another one."""
    with open_session(out) as session:
        from apmctl_core import jobs

        outcome = jobs.relabel_set(session, ref, pool=teachers, committee=committee.value, name=name)
    out.result(Made.by("relabel", outcome))


@takes(SET, fields.changes(fields.EVALUATE), MACHINE_OF_REPORT, OUTPUT, THRESHOLDS)
def evaluate(ref: str, thresholds: Thresholds, changes: dict[str, Any], open_session: OpenSession, out: Sink) -> None:
    """Train networks on a set, test them, and compare with as many random real images."""
    thresholds.check(changes)
    with open_session(out) as session:
        from apmctl_core import jobs

        outcome = jobs.evaluate_set(session, ref, changes)
    result = Evaluated.by(outcome)
    out.result(result)
    if (failure := thresholds.missed(result.results[0].row)) is not None:
        # The result stands on stdout; stderr and the exit code say that it is too low.
        out.complaint(failure)
        raise typer.Exit(FAILED)
