"""Evaluation: networks trained on a set, tested on the test split, beside as many random real images.

Random real images get the same labels, protocol and number of networks. The test split decides nothing: the accuracy
is that of the last epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.data import Dataset
from apmctl_core.errors import NumericsError
from apmctl_core.evaluation.protocols import PROTOCOLS, overridden
from apmctl_core.evaluation.scores import scores_of
from apmctl_core.events import Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.segment import Segment
from apmctl_core.models import ARCHITECTURES, NetworkSize, build
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Snapshot
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource, Source, TensorSource, exact_images
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.procedure import Procedure
from apmctl_core.values import Baseline, DistilledSet, State, Task

_STATE = "networks"


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset,
    models: Sequence[ModelConfig],
    config: EvalConfig,
    context: Context,
    coresets: Mapping[str, Baseline] | None = None,
) -> tuple[ReportRow, ...]:
    """Train and test `config.repeats` networks for each architecture and kind of labels.

    As many are trained on random real images, and on each of `coresets`. Accuracies are kept as they come. Raises
    NumericsError where a training diverges.
    """
    work = _Evaluation(distilled, dataset, config, context, coresets or {})
    work.total = len(models) * len(config.labels) * config.repeats * (1 + len(work.real))
    return tuple(work.row(model, labels) for model in models for labels in config.labels)


def cost(config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize]) -> Cost:
    """What an evaluation asks of the machine at its heaviest: the networks that share compiled code."""
    groups = 2 + len(config.baseline)  # the set, random images, coresets
    passes = config.repeats * groups * (config.epochs * images * ALL_GRADIENTS + task.test * FORWARD)
    held, step = 2 * images * task.image_bytes, min(config.batch, images)
    costs = [size.cost(task, passes=passes, step=step, fixed_bytes=held) for size in sizes]
    heaviest = max(costs, key=lambda c: c.step_flops)
    mixes = any(PROTOCOLS[config.protocol].procedures[labels].mix for labels in config.labels)
    whole = step if mixes else max(c.whole for c in costs)
    return replace(heaviest, image_bytes=max(c.image_bytes for c in costs), whole=whole)


class _Evaluation:
    """What the rows of a report share: images, the accuracies known so far, and the segment that they were got with."""

    def __init__(
        self,
        distilled: DistilledSet,
        dataset: Dataset,
        config: EvalConfig,
        context: Context,
        coresets: Mapping[str, Baseline],
    ) -> None:
        self._set, self._dataset, self._config, self._context = distilled, dataset, config, context
        self.real = {**({"random": distilled.baseline} if distilled.baseline else {}), **coresets}
        self._coresets = tuple(coresets)
        self._test = RealSource(dataset.test, distilled.preprocessing, context.device, context.precision)
        kept = context.keeper.load(_STATE)
        self._known: dict[str, float] = dict(kept.meta["accuracies"]) if kept else {}
        self._segment = context.runtime.resumed(kept.segment) if kept else context.segment
        self.total = 0

    def row(self, model: ModelConfig, labels: str) -> ReportRow:
        """One row: the networks of one architecture and kind of labels, which share compiled code."""
        procedure = PROTOCOLS[self._config.protocol].procedures[labels]
        make = functools.partial(build, model, self._dataset.shape, self._dataset.num_classes)
        trainer, predict = Trainer(make(), procedure, self._context), Predictor(make(), self._context)

        def accuracies(images: str) -> tuple[float, ...]:
            return tuple(accuracy(images, repeat) for repeat in range(self._config.repeats))

        def accuracy(images: str, repeat: int) -> float:
            name = f"{model.arch}/{model.width}/{labels}"
            stream = self._context.stream.at(name, images, repeat)
            initial = make(stream.at("weights").number)

            def measure(segment: Segment) -> float:
                source = self._source(images, labels, repeat)
                self._train(
                    trainer, initial.state_dict(), source, stream, segment, f"{name}, {images}, network {repeat}"
                )
                predict.load(trainer.weights())
                return predict.accuracy(self._test, segment)

            return self._get(f"{name}/{images}/{repeat}", measure)

        own = accuracies("distilled")
        real = {name: accuracies(name) for name in self.real}
        row = ReportRow(
            arch=model.arch,
            labels=labels,
            accuracies=own,
            random_accuracies=real.get("random", ()),
            protocol=self._protocol(model, trainer.procedure),
            coresets={name: real[name] for name in self._coresets},
        )
        return msgspec.structs.replace(row, scores=scores_of(row))

    def _get(self, key: str, measure: Callable[[Segment], float]) -> float:
        """The accuracy of a network, known or measured; measured ones are kept."""
        if key not in self._known:
            self._known[key], self._segment = self._context.attempt(measure, self._segment)
            done, accuracy = len(self._known), {"accuracy": self._known[key]}
            event = Progress(stage="evaluate", done=done, total=self.total, unit="network", metrics=accuracy)
            snapshot = Snapshot({}, {"accuracies": self._known}, self._segment.limit, event)
            self._context.keeper.save(_STATE, snapshot)
            self._context.emit(event)
        return self._known[key]

    def _train(
        self, trainer: Trainer, initial: State, source: Source, stream: Stream, segment: Segment, name: str
    ) -> None:
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch == 1:
                self._context.checkpoint(segment)

        trainer.fit(initial, source, self._config, stream, segment, after_epoch=after_epoch)
        if not torch.isfinite(last):
            raise NumericsError(f"the training of {name} diverged", "try a lower `evaluate.lr`")

    def _source(self, images: str, labels: str, repeat: int) -> Source:
        """The set's images, or real ones by how they were chosen: those of a repeat, if there are several draws."""
        s = self._set
        pixels, hard, soft = s.images, s.labels, s.logits
        if images in self.real:
            real = self.real[images]
            draw = repeat % len(real.index_DM)
            pixels, hard = exact_images(self._dataset.train, s.preprocessing, real.index_DM[draw])
            soft = real.logits_DMK[draw]
        targets = soft if labels == "soft" else hard
        return TensorSource(pixels.to(self._context.device), targets.to(self._context.device))

    def _protocol(self, model: ModelConfig, procedure: Procedure) -> dict[str, Any]:
        """What a row says of how it was measured, read from what ran."""
        return {
            "name": self._config.protocol,
            **({"overridden": ", ".join(changed)} if (changed := overridden(self._config)) else {}),
            "networks": self._config.repeats,
            **({"width": model.width} if ARCHITECTURES[model.arch].scales else {}),
            **procedure.describe(self._config),
            "images": len(self._set.images),
            "random_draws": len(self._set.baseline.index_DM) if self._set.baseline else 0,
            "test_images": len(self._dataset.test),
            **({"test_split": self._dataset.split} if self._dataset.split else {}),
            "precision": self._context.precision,
            "selection": "last epoch",
        }
