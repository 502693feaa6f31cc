"""The job of a pool of teachers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from apmctl_core.artifacts.kinds.pools import save_pool
from apmctl_core.data.fitting import fit
from apmctl_core.jobs.job import GENERATIONS, OVERHEAD, Job
from apmctl_core.jobs.recipes import artifact_name
from apmctl_core.jobs.work import Product, Work, described
from apmctl_core.machine.cost import Cost
from apmctl_core.models.registry import ARCHITECTURES, describe
from apmctl_core.stages import teachers


@dataclass(frozen=True, kw_only=True)
class PoolJob(Job):
    """Train the teachers of a recipe."""

    kind: ClassVar[str] = "pool"
    stage: ClassVar[str] = "teachers"
    covers: ClassVar[tuple[str, ...]] = ("data.preprocessing", "model", "teachers", "precision")

    @property
    def seed(self) -> int:
        # Its own: another draw of the images must not train another pool.
        return self.recipe.teachers.seed

    @property
    def default_name(self) -> str:
        model = self.recipe.model
        width = f"-w{model.width}" if ARCHITECTURES[model.arch].scales else ""
        return f"{artifact_name(self.recipe.data.dataset)}-{artifact_name(model.arch)}{width}"

    def cost(self) -> Cost:
        """Training; each finished teacher is a state first and a file in the end, the running one has its momentum."""
        weights = self.size.weight_bytes
        states = 2 * self.recipe.teachers.count * weights + GENERATIONS * 2 * weights
        disk = states + self.task.preprocessing_bytes + OVERHEAD
        return replace(teachers.cost(self.recipe.teachers, self.task, self.size), disk_bytes=disk)

    def describe(self) -> str:
        r = self.recipe
        return f"train {r.teachers.count} {describe(r.model)}, {r.teachers.epochs} epochs each"

    def make(self, work: Work) -> Product:
        """Train the teachers, or those that are missing."""
        r, session = self.recipe, work.session
        dataset = session.load(r.data, self.fingerprint)
        context = work.context(self.cost(), "teachers")
        preprocessing = fit(dataset, r.data.preprocessing, session.store.cache, session.emit)
        pool, metrics = teachers.train_teachers(dataset, preprocessing, r.model, r.teachers, context)
        save_pool(work.workspace.path, pool)
        return Product(metrics=metrics, data=described(dataset, r.data.dataset), context=context)
