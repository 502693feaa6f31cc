"""The job of a reference: networks trained on all real images, to measure sets against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from apmctl_core.artifacts.kinds.reports import Report, save_report
from apmctl_core.data.fitting import fit
from apmctl_core.evaluation.evaluate import cost_of_whole, evaluate_whole
from apmctl_core.jobs.job import OVERHEAD, Job
from apmctl_core.jobs.recipes import artifact_name
from apmctl_core.jobs.work import Product, Work, described
from apmctl_core.machine.cost import Cost
from apmctl_core.models.registry import describe


@dataclass(frozen=True, kw_only=True)
class WholeJob(Job):
    """Train the network of a recipe on all real images by the recipe's evaluation, and test it."""

    kind: ClassVar[str] = "reference"
    stage: ClassVar[str] = "whole"
    covers: ClassVar[tuple[str, ...]] = ("data.preprocessing", "evaluate", "model", "seed", "precision")

    @property
    def default_name(self) -> str:
        return f"{artifact_name(self.recipe.data.dataset)}-{artifact_name(self.recipe.model.arch)}-whole"

    def cost(self) -> Cost:
        """Training on all images, which are read a batch at a time."""
        return replace(cost_of_whole(self.recipe.evaluate, self.task, self.size), disk_bytes=OVERHEAD)

    def describe(self) -> str:
        e = self.recipe.evaluate
        return f"train {e.repeats} {describe(self.recipe.model)} on all real images, {e.epochs} epochs each"

    def make(self, work: Work) -> Product:
        """Train and test the networks that are missing."""
        r, session = self.recipe, work.session
        dataset = session.load(r.data, self.fingerprint)
        session.tell(dataset)
        task = replace(self.task, train=len(dataset.train), test=len(dataset.test))
        context = work.context(replace(self, task=task).cost(), "whole")
        preprocessing = fit(dataset, r.data.preprocessing, session.store.cache, session.emit)
        rows = evaluate_whole(dataset, preprocessing, r.model, r.evaluate, context)
        save_report(work.workspace.path, Report(set="", rows=rows))
        return Product(metrics={}, data=described(dataset, r.data.dataset), context=context)
