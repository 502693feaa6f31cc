"""Adversarial prediction matching (APM, Algorithm 1).

One refresh cycle draws a teacher and B of the M images, trains a fresh student on them, and lets its checkpoints
pull the images for G rounds: those B, or, as in the published runs, B others in each round.
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
from apmctl_core.training.loop import Trainer
from apmctl_core.training.procedure import MATCH_LOGITS, Procedure
from apmctl_core.values import State, Task, TeacherPool


@method("apm")
class Apm(Method):
    """The compiled parts of a run, and one refresh cycle made of them. The state keeps the images' momentum."""

    def __init__(self, dataset: Dataset, pool: TeacherPool, config: DistillConfig, context: Context) -> None:
        super().__init__(dataset, pool, config, context)
        assert isinstance(config, ApmConfig)
        assert config.alpha is not None  # a settled recipe has one
        self._config, self._alpha = config, config.alpha
        self._build = functools.partial(build, pool.model, dataset.shape, dataset.num_classes)
        self._trainer = Trainer(self._build(0), Procedure(loss=MATCH_LOGITS), context)
        self._matcher = Matcher(self._build(0), config.objective, config.alpha, context, config.student.batch)

    @property
    def cycles(self) -> int:
        return math.ceil(self._config.rounds / self._config.refresh_every)

    @property
    def brake(self) -> str:
        # The cross-entropy grows with alpha without end; what it stands against is a sum over checkpoints.
        return "`distill.alpha` or `distill.image_lr`" if self._alpha > self._config.checkpoints else super().brake

    def rounds(self, cycles: int) -> int:
        """Rounds in so many refresh cycles: G in each, fewer in the last."""
        return min(cycles * self._config.refresh_every, self._config.rounds)

    def extra(self, images: Tensor) -> dict[str, Tensor]:
        """The momentum of each image."""
        return {"momentum": torch.zeros_like(images)}

    def cycle(self, state: ImageState, segment: Segment) -> Update:
        """One refresh cycle on the images that its rounds draw."""
        c, device = self._config, self.context.device
        stream = self.context.stream.at("cycle", state.cycle)
        rounds = range(self.rounds(state.cycle), self.rounds(state.cycle + 1))
        drawn = self._drawn(len(state.images), rounds, stream)
        index = torch.cat(drawn).unique()
        places = [torch.searchsorted(index, part).to(device) for part in drawn]
        weights = self.pool.states[stream.at("teacher").integer(len(self.pool))]
        teacher = {name: value.to(device) for name, value in weights.items()}
        before = state.images[index].to(device)
        u, momentum, y = before.clone(), state.extra["momentum"][index].to(device), state.labels[index].to(device)
        # The student learns the images of the first round; where others are drawn later, it has not seen those.
        checkpoints, student_loss = self._student(u[places[0]], teacher, stream.at("student"), segment)
        matched = torch.zeros(())
        for r, at in zip(rounds, places, strict=True):
            draws = self._augmentation(len(at), stream.at("round", r))
            gradient, matched = self._matcher.gradient(u[at], y[at], teacher, checkpoints, segment, draws)
            momentum = (momentum * c.image_momentum).index_add_(0, at, gradient)
            u -= self._rate(r) * momentum
        metrics = {
            "student_loss": float(student_loss),
            "match_loss": float(matched),
            "moved": float((u - before).square().mean().sqrt()),
        }
        self._check(metrics, u, rounds.start, segment)
        others = functools.partial(self._coast, rounds) if c.draw == "round" else None
        return Update(index=index, images=u, extra={"momentum": momentum}, metrics=metrics, others=others)

    @classmethod
    def cost(cls, config: DistillConfig, task: Task, size: NetworkSize) -> Cost:
        """Students, then the images' rounds: the teacher's two passes, and one for each checkpoint."""
        assert isinstance(config, ApmConfig)
        total, drawn = config.ipc * task.num_classes, config.drawn(task.num_classes)
        held = min(total, drawn * config.refresh_every) if config.draw == "round" else drawn
        step = min(config.student.batch, drawn)
        students = math.ceil(config.rounds / config.refresh_every) * config.student.epochs * drawn * ALL_GRADIENTS
        pulls = config.rounds * drawn * (config.checkpoints * INPUT_GRADIENTS + FORWARD + INPUT_GRADIENTS)
        # All images and their momentum; of the drawn ones the copies that a cycle works on, or in the end all at the
        # start, which tell how far they have moved.
        images = (2 * total + max(4 * held, total)) * task.image_bytes
        return size.cost(
            task,
            passes=students + pulls,
            step=step,
            most=max(step, drawn),
            fixed_bytes=images + config.checkpoints * size.weight_bytes,
        )

    def _drawn(self, count: int, rounds: range, stream: Stream) -> list[Tensor]:
        """The images (B,) of each round of a cycle, in ascending order."""
        size = min(self._config.batch or count, count)
        streams = [stream.at("draw", r) if self._config.draw == "round" else stream.at("draw") for r in rounds]
        return [torch.randperm(count, generator=each.generator())[:size].sort().values for each in streams]

    def _augmentation(self, count: int, stream: Stream) -> Tensor | None:
        if not self._config.augment_images:
            return None
        return augment.draw(count, stream.generator(), sharing=count if self._config.student.dsa == "batch" else 1)

    def _rate(self, r: int) -> float:
        """The images' learning rate in round r: lower in the second half."""
        rate = self._config.image_lr
        assert rate is not None  # a settled recipe has one
        return rate * (self._config.image_decay if r >= self._config.rounds / 2 else 1.0)

    def _coast(self, rounds: range, state: ImageState) -> None:
        """Move all images as rounds that draw none of them do, by the momentum that they have.

        So did the published runs, whose optimiser had a gradient of zero for an image that was not drawn.
        """
        decay = self._config.image_momentum
        way = sum(self._rate(r) * decay ** (i + 1) for i, r in enumerate(rounds))
        state.images.sub_(state.extra["momentum"], alpha=way)
        state.extra["momentum"].mul_(decay ** len(rounds))

    def _student(self, u: Tensor, teacher: State, stream: Stream, segment: Segment) -> tuple[list[State], Tensor]:
        """Train a fresh student on (u, f_T(u)); returns Kc checkpoints at equal intervals, the last one included."""
        epochs, kept = self._config.student.epochs, self._config.checkpoints
        # The labels are those of the images as they are, without augmentation.
        source = TensorSource(u, self._matcher.labels(u, teacher, segment))
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
        # Where each round draws its own images, they are in no one segment.
        told = len(broken) and self._config.draw == "cycle"
        where = f", segment {int(broken[0]) // segment.length(len(u))}" if told else ""
        rate = self.brake if math.isfinite(metrics["student_loss"]) else "`distill.student.lr`"
        raise NumericsError(
            f"a loss or an image stopped being finite in round {first}{where}",
            f"try a lower {rate}, or `precision` fp32; the state before this round is kept",
        )
