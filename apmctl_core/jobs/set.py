"""The jobs of a distilled set: made by a method, or the images of another one under new labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from apmctl_core.artifacts.kinds.pools import load_pool
from apmctl_core.artifacts.kinds.sets import load_set, save_set
from apmctl_core.data import Dataset
from apmctl_core.evaluation.verdict import unmoved
from apmctl_core.events import Note
from apmctl_core.formats.preview import preview_png
from apmctl_core.jobs.job import GENERATIONS, OVERHEAD, Job, Located
from apmctl_core.jobs.pool import PoolJob
from apmctl_core.jobs.recipes import artifact_name
from apmctl_core.jobs.work import Product, Work, described
from apmctl_core.machine.cost import Cost
from apmctl_core.methods import METHODS
from apmctl_core.models import NetworkSize, state_shapes
from apmctl_core.seeding import Stream
from apmctl_core.stages import labelling
from apmctl_core.stages.distill import distill
from apmctl_core.training.context import Context
from apmctl_core.values import DistilledSet, TeacherPool


@dataclass(frozen=True, kw_only=True)
class _AnySet(Job):
    """What all jobs of sets share: labels, files and their room on the disk."""

    kind: ClassVar[str] = "set"

    pool: PoolJob | Located

    @property
    def reads(self) -> dict[str, Job | Located]:
        return {"pool": self.pool}

    def _disk_bytes(self) -> int:
        ipc = self.recipe.distill.ipc
        images = ipc * self.task.num_classes * self.task.image_bytes
        logits = labelling.logits_bytes(ipc, self.task)
        return (GENERATIONS + 1) * (2 * images + logits) + self.task.preprocessing_bytes + OVERHEAD

    def _finish(
        self,
        work: Work,
        dataset: Dataset,
        pool: TeacherPool,
        images: Tensor,
        labels: Tensor,
        metrics: dict[str, Any],
        context: Context,
    ) -> Product:
        """Label the images and as many random real ones, and write the set."""
        d = self.recipe.distill
        work.begin("label")
        context = replace(context, stream=Stream(self.recipe.seed).at("relabel"))
        logits, baseline, labellers = labelling.label_images(images, d.ipc, d.committee, dataset, pool, context)
        distilled = DistilledSet(
            images=images,
            logits=logits,
            labels=labels,
            stage=torch.zeros_like(labels),
            classes=dataset.classes,
            preprocessing=pool.preprocessing,
            baseline=baseline,
        )
        save_set(work.workspace.path, distilled)
        work.workspace.write("preview.png", preview_png(distilled))
        metrics = metrics | {"images": len(images), "committee": d.committee, "labelling_teachers": labellers}
        return Product(metrics=metrics, data=described(dataset, self.recipe.data.dataset), context=context)


@dataclass(frozen=True, kw_only=True)
class SetJob(_AnySet):
    """Distil the set of a recipe, with a pool that exists or that another job trains."""

    stage: ClassVar[str] = "distill"
    covers: ClassVar[tuple[str, ...]] = ("data.preprocessing", "model", "distill", "seed", "precision")

    @property
    def default_name(self) -> str:
        return f"{artifact_name(self.recipe.data.dataset)}-ipc{self.recipe.distill.ipc}"

    def cost(self) -> Cost:
        """That of the method's cycles."""
        d = self.recipe.distill
        return replace(METHODS[d.method].cost(d, self.task, self.size), disk_bytes=self._disk_bytes())

    def describe(self) -> str:
        d = self.recipe.distill
        total = d.ipc * self.task.num_classes
        return f"{total} images, {d.rounds} rounds on {min(d.batch or total, total)} of them"

    def make(self, work: Work) -> Product:
        """Run the method's cycles, then label the images."""
        r, session = self.recipe, work.session
        pool = load_pool(self.pool.open(session), state_shapes)
        dataset = session.load(r.data, self.fingerprint)
        context = work.context(self.cost(), "distill")
        state = distill(dataset, pool, r.distill, context)
        if (text := unmoved(state.metrics)) is not None:
            work.emit(Note(text=text, level="warning"))
        context = replace(context, runtime=replace(context.runtime, segment=state.segment))
        return self._finish(work, dataset, pool, state.images, state.labels, state.metrics, context)


@dataclass(frozen=True, kw_only=True)
class RelabelJob(_AnySet):
    """Give the images of a set new logits."""

    stage: ClassVar[str] = "relabel"
    covers: ClassVar[tuple[str, ...]] = ("distill.committee", "seed", "precision")

    pool: Located
    source: Located
    labellers: NetworkSize

    @property
    def default_name(self) -> str:
        return f"{self.source.ref.partition('@')[0][:90]}-relabel"

    @property
    def reads(self) -> dict[str, Job | Located]:
        return {"pool": self.pool, "set": self.source}

    def cost(self) -> Cost:
        """That of passes of the pool's networks, which need not be those of the set."""
        return replace(
            labelling.cost(self.recipe.distill.ipc, self.task, self.labellers), disk_bytes=self._disk_bytes()
        )

    def describe(self) -> str:
        return f"label {self.recipe.distill.ipc * self.task.num_classes} images by {self.pool.ref}"

    def make(self, work: Work) -> Product:
        """Label the images of the source."""
        session = work.session
        dataset = session.load(self.recipe.data, self.fingerprint)
        original = load_set(self.source.open(session))
        pool = load_pool(self.pool.open(session), state_shapes)
        context = work.context(self.cost(), "relabel")
        return self._finish(work, dataset, pool, original.images, original.labels, {}, context)
