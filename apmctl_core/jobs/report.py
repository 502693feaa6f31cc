"""The job of a report: networks trained on a set and tested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from apmctl_core.artifacts.kinds.coresets import load_coreset
from apmctl_core.artifacts.kinds.reports import Report, load_report, save_report
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.config import ModelConfig
from apmctl_core.evaluation.evaluate import cost, evaluate
from apmctl_core.jobs.coreset import CoresetJob
from apmctl_core.jobs.job import OVERHEAD, Job, Located
from apmctl_core.jobs.whole import WholeJob
from apmctl_core.jobs.work import Product, Work
from apmctl_core.machine.cost import Cost
from apmctl_core.models import size_of


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
        artifact = self.distilled.open(session)
        task = replace(self.task, train=len(dataset.train), test=len(dataset.test))
        context = work.context(replace(self, task=task).cost(), "evaluate")
        coresets = {job.method: load_coreset(job.open(session)) for job in self.coresets}
        wholes = {job.recipe.model.arch: load_report(job.open(session), job.kind).rows for job in self.wholes}
        whole = {arch: rows[0].accuracies for arch, rows in wholes.items()}
        rows = evaluate(load_set(artifact), dataset, self.models, self.recipe.evaluate, context, coresets, whole)
        save_report(work.workspace.path, Report(set=self.distilled.ref, rows=rows))
        return Product(metrics={}, data=artifact.manifest.data, context=context)
