"""Do the engine's images equal those of Algorithm 1 written the plain way?

The plain way: eager fp32, whole batches, a loop over the checkpoints with the teacher called for each, torch's SGD.
It is the yardstick of the speed, and a second implementation that the engine is tested against. Random streams
and augmentations (their draws and their application) are the engine's, so that both see the same numbers.

Shape legend: M images, B of a round, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from common import Table, options, parse, report
from subjects import Setting, context, noise, untrained
from torch import Tensor, nn

from apmctl_core.config import ApmConfig, ModelConfig, TrainConfig
from apmctl_core.data import Dataset
from apmctl_core.data.sampling import stratified_sample
from apmctl_core.machine.runtime import resolve
from apmctl_core.models import build
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.training import augment
from apmctl_core.values import TeacherPool


class Plain:
    """Algorithm 1 of APM. `segment` (0: whole) bounds the images of a round that are held at once."""

    def __init__(
        self, dataset: Dataset, pool: TeacherPool, config: ApmConfig, stream: Stream, segment: int = 0
    ) -> None:
        self.config = config
        self.pool = pool
        self.stream = stream
        self.segment = segment
        self.labels = torch.arange(dataset.num_classes).repeat_interleave(config.ipc)
        self.images = self._start(dataset)
        self.momentum = torch.zeros_like(self.images)
        self.done = 0

    def _start(self, dataset: Dataset) -> Tensor:
        rng = self.stream.at("init").generator()
        if self.config.init == "noise":
            return torch.randn(len(self.labels), *dataset.shape, generator=rng)
        index = stratified_sample(dataset.train.labels, self.config.ipc, rng)
        return self.pool.preprocessing.forward(torch.from_numpy(dataset.train.images[index]))

    def cycle(self) -> None:
        """One refresh cycle: draw a teacher and B images, train a student, update the images for G rounds."""
        c = self.config
        stream = self.stream.at("cycle", self.done)
        size = min(c.batch or len(self.images), len(self.images))
        drawn = torch.arange(len(self.images))
        if size < len(self.images):
            drawn = torch.randperm(len(self.images), generator=stream.at("draw").generator())[:size].sort().values
        teacher = self._network(0)
        teacher.load_state_dict(self.pool.states[stream.at("teacher").integer(len(self.pool))])
        teacher.requires_grad_(False)
        students = self._students(self.images[drawn], teacher, stream.at("student"))
        first = self.done * c.refresh_every
        for r in range(first, min(first + c.refresh_every, c.rounds)):
            draws = augment.draw(size, stream.at("round", r).generator()) if c.augment_images else None
            gradient = self._gradient(self.images[drawn], self.labels[drawn], teacher, students, draws)
            self.momentum[drawn] = c.image_momentum * self.momentum[drawn] + gradient
            rate = (c.image_lr or 0.0) * (c.image_decay if r >= c.rounds / 2 else 1.0)
            self.images[drawn] -= rate * self.momentum[drawn]
        self.done += 1

    def _network(self, seed: int) -> nn.Module:
        return build(self.pool.model, self.pool.shape, self.pool.num_classes, seed)

    def _students(self, u: Tensor, teacher: nn.Module, stream: Stream) -> list[nn.Module]:
        """Train a student on (u, f_T(u)) and keep Kc copies of it at equal intervals, the last one included."""
        c = self.config
        with torch.no_grad():
            target = teacher(u)
        student = self._network(stream.at("weights").number)
        optimiser = torch.optim.SGD(
            student.parameters(), lr=c.student.lr, momentum=c.student.momentum, weight_decay=c.student.weight_decay
        )
        kept: list[nn.Module] = []
        wanted = {round(i * c.student.epochs / c.checkpoints) for i in range(1, c.checkpoints + 1)}
        for epoch in range(c.student.epochs):
            if c.student.epochs > 1 and epoch == c.student.epochs // 2:
                optimiser.param_groups[0]["lr"] *= 0.1
            rng = stream.at("epoch", epoch).generator()
            order = torch.randperm(len(u), generator=rng)
            draws = augment.draw(len(u), rng)
            for start in range(0, len(u), c.student.batch):
                step = slice(start, start + c.student.batch)
                logits = student(augment.apply(u[order[step]], draws[step]))
                loss = (logits - target[order[step]]).abs().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if epoch + 1 in wanted:
                kept.append(copy.deepcopy(student).requires_grad_(False))
        return kept

    def _gradient(
        self, u: Tensor, y: Tensor, teacher: nn.Module, students: list[nn.Module], draws: Tensor | None
    ) -> Tensor:
        """The gradient of L_u (METHOD, step 3) with respect to the images, by autograd over the whole sum."""
        u = u.clone().requires_grad_()
        for start in range(0, len(u), self.segment or len(u)):
            part = slice(start, start + (self.segment or len(u)))
            seen = u[part] if draws is None else augment.apply(u[part], draws[part])
            loss = torch.zeros(())
            for student in students:
                logits = teacher(seen)
                d = (logits - student(seen)).abs().mean(dim=1)
                loss = loss - ((d + 1e-8).log() if self.config.objective == "log" else d).sum()
            loss = loss + self.config.alpha * F.cross_entropy(logits, y[part], reduction="sum")
            (loss / len(u)).backward()
        assert u.grad is not None
        return u.grad


def plain_images(dataset: Dataset, pool: TeacherPool, config: ApmConfig, stream: Stream, segment: int = 0) -> Tensor:
    """The images (M, C, H, W) after all rounds of a configuration."""
    run = Plain(dataset, pool, config, stream, segment)
    for _ in range(math.ceil(config.rounds / config.refresh_every)):
        run.cycle()
    return run.images


# --- the comparison ----------------------------------------------------------------------------------------------


def compare(setting: Setting, changes: dict[str, object], segment: int) -> tuple[str, str, str, str]:
    """How far the engine's images (fp32, eager) end from the plain ones, beside how far they moved."""
    config = replace(setting.config, **changes)  # type: ignore[arg-type]
    dataset = noise(setting.shape, setting.classes, train=config.ipc)
    pool = untrained(setting)
    setting = replace(setting, config=config)
    fast = distill(dataset, pool, config, context(resolve("cpu", False, segment), setting.cost("fp32"), "fp32")).images
    start = Plain(dataset, pool, config, Stream(0)).images
    plain = plain_images(dataset, pool, config, Stream(0))
    text = ", ".join(f"{k} {v}" for k, v in changes.items()) or "as it is"
    moved = (plain - start).abs().max()
    return text, str(segment or "whole"), f"{float(moved):.3g}", f"{float((fast - plain).abs().max()):.2g}"


CASES: tuple[tuple[dict[str, object], int], ...] = (
    ({}, 0),
    ({}, 3),
    ({"objective": "log"}, 0),
    ({"batch": 7}, 0),
    ({"augment_images": True}, 0),
    ({"init": "noise"}, 0),
)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=16, help="side of the images in pixels [%(default)s]")
    parser.add_argument("--width", type=int, default=32, help="width of the network [%(default)s]")
    parser.add_argument("--epochs", type=int, default=20, help="E, epochs of a student [%(default)s]")
    parser.add_argument("--cycles", type=int, default=4, help="refresh cycles [%(default)s]")
    args = parse(parser, argv, {"side": 8, "width": 8, "epochs": 6, "cycles": 2})
    config = ApmConfig(
        ipc=3, rounds=3 * args.cycles, student=TrainConfig(epochs=args.epochs), checkpoints=3, image_lr=5.0, alpha=0.5
    )
    model = ModelConfig(arch="convnet2", width=args.width)
    setting = Setting(shape=(3, args.side, args.side), classes=4, model=model, config=config)
    rows = [compare(setting, changes, segment) for changes, segment in CASES]
    header = ("setting", "segment", "images moved by at most", "differ by at most")
    title = f"{args.cycles} cycles, {args.side}x{args.side} pixels, width {args.width}, E {args.epochs}"
    report(args, "plain", "Does the engine compute what Algorithm 1 says?", [Table(title, header, rows)])


if __name__ == "__main__":
    main()
