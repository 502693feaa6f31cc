"""Adversarial prediction matching (APM, Algorithm 1).

One refresh cycle draws a teacher and B of the M images, trains a fresh student on them, and lets its checkpoints
pull the images for G rounds.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from apmctl_core.config import ApmConfig, DistillConfig
from apmctl_core.data import Dataset
from apmctl_core.errors import NumericsError
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.segment import Segment
from apmctl_core.methods.base import ImageState, Method, Update, method
from apmctl_core.methods.matching import Matcher
from apmctl_core.models import NetworkSize, build
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD, INPUT_GRADIENTS
from apmctl_core.seeding import Stream
from apmctl_core.training import augment
from apmctl_core.training.context import Context
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure
from apmctl_core.values import State, Task, TeacherPool


@method("apm")
class Apm(Method):
    """The compiled parts of a run, and one refresh cycle made of them. The state keeps the images' momentum."""

    def __init__(self, dataset: Dataset, pool: TeacherPool, config: DistillConfig, context: Context) -> None:
        super().__init__(dataset, pool, config, context)
        assert isinstance(config, ApmConfig)
        self._config = config
        self._build = functools.partial(build, pool.model, dataset.shape, dataset.num_classes)
        self._trainer = Trainer(self._build(0), Procedure(loss=MATCH_LOGITS), context)
        self._predict = Predictor(self._build(0), context)
        self._matcher = Matcher(self._build(0), config.objective, config.alpha, context)

    @property
    def cycles(self) -> int:
        return math.ceil(self._config.rounds / self._config.refresh_every)

    def rounds(self, cycles: int) -> int:
        """Rounds in so many refresh cycles: G in each, fewer in the last."""
        return min(cycles * self._config.refresh_every, self._config.rounds)

    def extra(self, images: Tensor) -> dict[str, Tensor]:
        """The momentum of each image."""
        return {"momentum": torch.zeros_like(images)}

    def cycle(self, state: ImageState, segment: Segment) -> Update:
        """One refresh cycle on B of the images."""
        c, device, rate = self._config, self.context.device, self._config.image_lr
        assert rate is not None  # a settled recipe has one
        stream = self.context.stream.at("cycle", state.cycle)
        index = self._drawn(len(state.images), stream)
        weights = self.pool.states[stream.at("teacher").integer(len(self.pool))]
        teacher = {name: value.to(device) for name, value in weights.items()}
        before = state.images[index].to(device)
        u, momentum, y = before.clone(), state.extra["momentum"][index].to(device), state.labels[index].to(device)
        checkpoints, student_loss = self._student(u, teacher, stream.at("student"), segment)
        matched = torch.zeros(())
        for r in range(self.rounds(state.cycle), self.rounds(state.cycle + 1)):
            draws = augment.draw(len(u), stream.at("round", r).generator()) if c.augment_images else None
            gradient, matched = self._matcher.gradient(u, y, teacher, checkpoints, segment, draws)
            momentum = momentum * c.image_momentum + gradient
            u -= rate * (c.image_decay if r >= c.rounds / 2 else 1.0) * momentum
        metrics = {
            "student_loss": float(student_loss),
            "match_loss": float(matched),
            "moved": float((u - before).square().mean().sqrt()),
        }
        self._check(metrics, u, self.rounds(state.cycle), segment)
        return Update(index=index, images=u, extra={"momentum": momentum}, metrics=metrics)

    @classmethod
    def cost(cls, config: DistillConfig, task: Task, size: NetworkSize) -> Cost:
        """Students, then the images' rounds: the teacher's two passes, and one for each checkpoint."""
        assert isinstance(config, ApmConfig)
        total = config.ipc * task.num_classes
        drawn = min(config.batch or total, total)
        step = min(config.student.batch, drawn)
        students = math.ceil(config.rounds / config.refresh_every) * config.student.epochs * drawn * ALL_GRADIENTS
        pulls = config.rounds * drawn * (config.checkpoints * INPUT_GRADIENTS + FORWARD + INPUT_GRADIENTS)
        # All images and their momentum; of the drawn ones the copies that a cycle works on.
        images = (2 * total + 4 * drawn) * task.image_bytes
        return size.cost(
            task,
            passes=students + pulls,
            step=step,
            most=max(step, drawn),
            fixed_bytes=images + config.checkpoints * size.weight_bytes,
        )

    def _drawn(self, count: int, stream: Stream) -> Tensor:
        size = min(self._config.batch or count, count)
        if size == count:
            return torch.arange(count)
        return torch.randperm(count, generator=stream.at("draw").generator())[:size].sort().values

    def _student(self, u: Tensor, teacher: State, stream: Stream, segment: Segment) -> tuple[list[State], Tensor]:
        """Train a fresh student on (u, f_T(u)); returns Kc checkpoints at equal intervals, the last one included."""
        epochs, kept = self._config.student.epochs, self._config.checkpoints
        # The labels are those of the images as they are, without augmentation.
        self._predict.load(teacher)
        source = TensorSource(u, self._predict.in_segments(u, segment))
        wanted = {round(i * epochs / kept) for i in range(1, kept + 1)}
        checkpoints: list[State] = []
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch in wanted:
                checkpoints.append(self._trainer.weights())

        initial = self._build(stream.at("weights").number).state_dict()
        self._trainer.fit(initial, source, self._config.student, stream, segment, after_epoch=after_epoch)
        return checkpoints, last

    def _check(self, metrics: dict[str, float], u: Tensor, first: int, segment: Segment) -> None:
        broken = (~torch.isfinite(u).flatten(1).all(1)).nonzero().flatten()
        if len(broken) == 0 and all(math.isfinite(value) for value in metrics.values()):
            return
        where = f", segment {int(broken[0]) // segment.length(len(u))}" if len(broken) else ""
        rate = "distill.student.lr" if not math.isfinite(metrics["student_loss"]) else "distill.image_lr"
        raise NumericsError(
            f"a loss or an image stopped being finite in round {first}{where}",
            f"try a lower `{rate}`, or `precision` fp32; the state before this round is kept",
        )
