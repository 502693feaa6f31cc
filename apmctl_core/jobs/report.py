"""The job of a report: networks trained on a set and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from apmctl_core.artifacts.kinds.coresets import load_coreset
from apmctl_core.artifacts.kinds.reports import Report, load_report, save_report
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.config import ModelConfig
from apmctl_core.evaluation.evaluate import cost, evaluate
from apmctl_core.evaluation.trial import Bench, Images, Trial
from apmctl_core.events import silent
from apmctl_core.jobs.coreset import CoresetJob
from apmctl_core.jobs.job import OVERHEAD, Job, Located
from apmctl_core.jobs.session import Session
from apmctl_core.jobs.whole import WholeJob
from apmctl_core.jobs.work import Product, Work
from apmctl_core.machine import workers
from apmctl_core.machine.cost import Cost
from apmctl_core.models import size_of
from apmctl_core.seeding import Stream
from apmctl_core.training.context import Context
from apmctl_core.values import Baseline, DistilledSet


@dataclass(frozen=True, kw_only=True)
class ReportJob(Job):
    """Measure a set by the protocol of a recipe."""

    kind: ClassVar[str] = "report"
    stage: ClassVar[str] = "evaluate"
    covers: ClassVar[tuple[str, ...]] = ("evaluate", "model.width", "seed", "precision")

    distilled: Located
    coresets: tuple[CoresetJob, ...] = ()
    wholes: tuple[WholeJob, ...] = ()

    @property
    def default_name(self) -> str:
        return f"{self.distilled.ref.partition('@')[0][:90]}-eval"

    @property
    def reads(self) -> dict[str, Job | Located]:
        wholes = {f"whole {job.recipe.model.arch}": job for job in self.wholes}
        return {"set": self.distilled, **{job.method: job for job in self.coresets}, **wholes}

    @property
    def models(self) -> list[ModelConfig]:
        """The networks to train."""
        return [replace(self.recipe.model, arch=arch) for arch in self.recipe.evaluate.arch]

    def cost(self) -> Cost:
        """Training of the heaviest of the networks."""
        sizes = [size_of(model, self.task.shape, self.task.num_classes) for model in self.models]
        images = self.recipe.distill.ipc * self.task.num_classes
        return replace(cost(self.recipe.evaluate, images, self.task, sizes), disk_bytes=OVERHEAD)

    def describe(self) -> str:
        e = self.recipe.evaluate
        return f"train {e.repeats} networks a row, {e.epochs} epochs each"

    def make(self, work: Work) -> Product:
        """Train and test the networks that are missing."""
        session = work.session
        dataset = session.load(self.recipe.data, self.fingerprint)
        session.tell(dataset)
        task = replace(self.task, train=len(dataset.train), test=len(dataset.test))
        context = work.context(replace(self, task=task).cost(), "evaluate")
        distilled, coresets = self._read(session)
        whole = {job.recipe.model.arch: load_report(job.open(session), job.kind).rows[0] for job in self.wholes}
        count = context.runtime.workers or 1
        at_once = partial(self._at_once, replace(session, runtime=context.runtime), count) if count > 1 else None
        models, config = self.models, self.recipe.evaluate
        rows = evaluate(distilled, dataset, models, config, context, coresets, whole, at_once)
        save_report(work.workspace.path, Report(set=self.distilled.ref, rows=rows))
        data = self.distilled.open(session).manifest.data
        return Product(metrics={}, data=data, context=context)

    def accuracy(self, session: Session) -> Callable[[Trial], float]:
        """What measures a network of this report, for a process that has nothing but the job and a session."""
        dataset = session.load(self.recipe.data, self.fingerprint)
        distilled, coresets = self._read(session)
        stream = Stream(self.seed).at("evaluate")
        context = Context(stream=stream, runtime=session.runtime, precision=self.recipe.precision)
        images = Images(distilled, dataset, coresets, context)
        bench = Bench(dataset, distilled.preprocessing, images, self.recipe.evaluate, context)
        return partial(bench.accuracy, segment=context.segment)

    def _read(self, session: Session) -> tuple[DistilledSet, dict[str, Baseline]]:
        """The set and the coresets."""
        coresets = {job.method: load_coreset(job.open(session)) for job in self.coresets}
        return load_set(self.distilled.open(session)), coresets

    def _at_once(self, session: Session, count: int, trials: Sequence[Trial]) -> Iterator[tuple[Trial, float]]:
        alone = replace(session, runtime=session.runtime.alone(), emit=silent, request=None)
        return workers.each(partial(self.accuracy, alone), trials, min(count, len(trials)))
