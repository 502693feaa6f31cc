"""The job of a coreset: real images to stand beside a set, under the labels that the set has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from apmctl_core.artifacts.kinds.coresets import save_coreset
from apmctl_core.artifacts.kinds.pools import load_pool
from apmctl_core.evaluation.coreset import labelled
from apmctl_core.evaluation.coresets import choose
from apmctl_core.jobs.job import OVERHEAD, Job, Located
from apmctl_core.jobs.recipes import artifact_name
from apmctl_core.jobs.work import Product, Work, described
from apmctl_core.machine.cost import Cost
from apmctl_core.models import NetworkSize, state_shapes
from apmctl_core.models.size import FORWARD
from apmctl_core.seeding import Stream


@dataclass(frozen=True, kw_only=True)
class CoresetJob(Job):
    """Choose the images of the one baseline that a recipe's evaluation names, and label them."""

    kind: ClassVar[str] = "coreset"
    stage: ClassVar[str] = "choose"
    covers: ClassVar[tuple[str, ...]] = (
        "distill.ipc", "distill.committee", "evaluate.baseline", "seed", "precision",
    )  # fmt: skip

    pool: Located
    looks: NetworkSize  # the pool's networks

    @property
    def method(self) -> str:
        """The name of the way to choose."""
        return self.recipe.evaluate.baseline[0]

    @property
    def default_name(self) -> str:
        r = self.recipe
        return f"{artifact_name(r.data.dataset)}-ipc{r.distill.ipc}-{self.method}"

    @property
    def reads(self) -> dict[str, Job | Located]:
        return {"pool": self.pool}

    def cost(self) -> Cost:
        """Passes of the pool's networks over all training images, those of a class in memory at a time."""
        images = self.recipe.distill.ipc * self.task.num_classes
        held = self.task.train / self.task.num_classes * self.task.image_bytes
        cost = self.looks.cost(self.task, passes=self.task.train * FORWARD, step=0, most=500, fixed_bytes=held)
        return replace(cost, disk_bytes=4 * images * (self.task.num_classes + 2) + OVERHEAD)

    def describe(self) -> str:
        return f"choose {self.recipe.distill.ipc * self.task.num_classes} real images by {self.method}"

    def make(self, work: Work) -> Product:
        """Look at all training images, choose, label."""
        r, session = self.recipe, work.session
        dataset = session.load(r.data, self.fingerprint)
        pool = load_pool(self.pool.open(session), state_shapes)
        context = work.context(self.cost(), "coreset")
        index = choose(self.method, r.distill.ipc, dataset, pool, context)
        # The stream that the labeller of a set is drawn from: of a committee's teachers, it is the same one.
        labelling = replace(context, stream=Stream(r.seed).at("relabel"))
        save_coreset(work.workspace.path, labelled(index, r.distill.committee, dataset, pool, labelling))
        data = described(dataset, r.data.dataset)
        return Product(metrics={"images": len(index), "method": self.method}, data=data, context=context)
