"""Evaluation: networks trained on a set, tested on the test split, beside as many random real images.

Random real images get the same labels, protocol and number of networks. The test split decides nothing: the accuracy
is that of the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from apmctl_core import intervals
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.data import Dataset
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.evaluation.protocols import PROTOCOLS, overridden
from apmctl_core.evaluation.scores import with_scores
from apmctl_core.evaluation.trial import Bench, Trial, procedure_of
from apmctl_core.events import Note, Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.models import ARCHITECTURES, NetworkSize
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD
from apmctl_core.training.checkpoint import Snapshot
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource, Source, TensorSource, exact_images
from apmctl_core.values import Baseline, DistilledSet, Task

_STATE = "networks"
_OWN, _RANDOM, _WHOLE = "distilled", "random", "whole"  # what networks are trained on
_MOST = 200  # networks that an interval may ask for


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset,
    models: Sequence[ModelConfig],
    config: EvalConfig,
    context: Context,
    coresets: Mapping[str, Baseline] | None = None,
    whole: Mapping[str, Sequence[float]] | None = None,
) -> tuple[ReportRow, ...]:
    """Train and test `config.repeats` networks for each architecture and kind of labels.

    As many are trained on random real images, and on each of `coresets`; more where `config.interval` asks for it.
    `whole` are the accuracies of networks that were trained on all real images, by architecture. Accuracies are kept as
    they come. Raises NumericsError where a training diverges.
    """
    work = _Evaluation(distilled, dataset, config, context, coresets or {}, whole or {})
    rows = [(model, labels) for model in models for labels in config.labels]
    work.accuracies.total = len(rows) * len(work.groups) * config.repeats
    return with_scores([work.row(model, labels) for model, labels in rows])


def evaluate_whole(
    dataset: Dataset, preprocessing: Preprocessing, model: ModelConfig, config: EvalConfig, context: Context
) -> tuple[ReportRow, ...]:
    """The row of networks that are trained on all real images, under their class labels."""
    train = RealSource(dataset.train, preprocessing, context.device, context.precision)
    accuracies = _Accuracies(Bench(dataset, preprocessing, lambda _: train, config, context), context)
    accuracies.total = config.repeats
    trials = [Trial(model=model, labels="hard", images=_WHOLE, repeat=repeat) for repeat in range(config.repeats)]
    said = _protocol(trials[0], config, dataset, context, networks=len(trials), images=len(train))
    return (ReportRow(model.arch, "hard", accuracies.of(trials), (), said),)


def cost(config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize]) -> Cost:
    """What an evaluation asks of the machine at its heaviest: the networks that share compiled code."""
    groups = 2 + len(config.baseline) + (2 if config.unaugmented else 0)  # the set, random images, coresets
    return _cost(config, images, task, sizes, networks=config.repeats * groups, held=2 * images)


def cost_of_whole(config: EvalConfig, task: Task, size: NetworkSize) -> Cost:
    """What training on all real images asks of the machine; they are read a batch at a time."""
    return _cost(config, task.train, task, [size], networks=config.repeats, held=2 * config.batch)


def _cost(
    config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize], *, networks: int, held: int
) -> Cost:
    """The cost of so many networks, each trained on so many images, of which `held` are in memory."""
    passes, step = networks * (config.epochs * images * ALL_GRADIENTS + task.test * FORWARD), min(config.batch, images)
    costs = [size.cost(task, passes=passes, step=step, fixed_bytes=held * task.image_bytes) for size in sizes]
    heaviest = max(costs, key=lambda c: c.step_flops)
    mixes = any(PROTOCOLS[config.protocol].procedures[labels].mix for labels in config.labels)
    whole = step if mixes else max(c.whole for c in costs)
    return replace(heaviest, image_bytes=max(c.image_bytes for c in costs), whole=whole)


class _Accuracies:
    """The accuracies of networks, of `total` in all; each is measured once, and kept."""

    total = 0

    def __init__(self, bench: Bench, context: Context) -> None:
        self._bench, self._context = bench, context
        kept = context.keeper.load(_STATE)
        self._known: dict[str, float] = dict(kept.meta["accuracies"]) if kept else {}
        self._segment = context.runtime.resumed(kept.segment) if kept else context.segment

    def of(self, trials: Sequence[Trial]) -> tuple[float, ...]:
        """Those of trials, known or measured."""
        for trial in trials:
            if trial.key not in self._known:
                work = partial(self._bench.accuracy, trial)
                accuracy, self._segment = self._context.attempt(work, self._segment)
                self._keep(trial.key, accuracy)
        return tuple(self._known[trial.key] for trial in trials)

    def _keep(self, key: str, accuracy: float) -> None:
        self._known[key] = accuracy
        done, metrics = len(self._known), {"accuracy": accuracy}
        event = Progress(stage="evaluate", done=done, total=self.total, unit="network", metrics=metrics)
        snapshot = Snapshot({}, {"accuracies": self._known}, self._segment.limit, event)
        self._context.keeper.save(_STATE, snapshot)
        self._context.emit(event)


class _Evaluation:
    """What the rows of a report share. `groups`: what networks are trained on, and whether they see it augmented."""

    def __init__(
        self,
        distilled: DistilledSet,
        dataset: Dataset,
        config: EvalConfig,
        context: Context,
        coresets: Mapping[str, Baseline],
        whole: Mapping[str, Sequence[float]],
    ) -> None:
        self._set, self._dataset, self._config, self._context = distilled, dataset, config, context
        self._coresets, self._whole = tuple(coresets), whole
        self._real = {**({_RANDOM: distilled.baseline} if distilled.baseline else {}), **coresets}
        self.groups = [(name, True) for name in (_OWN, *self._real)]
        if config.unaugmented:
            self.groups += [(name, False) for name in (_OWN, *self._real) if name not in coresets]
        self.accuracies = _Accuracies(Bench(dataset, distilled.preprocessing, self._source, config, context), context)

    def row(self, model: ModelConfig, labels: str) -> ReportRow:
        """The networks of one architecture and kind of labels."""
        found = self._measured(model, labels)
        own = found[_OWN, True]
        trial = Trial(model=model, labels=labels, images=_OWN, repeat=0)
        draws = len(self._set.baseline.index_DM) if self._set.baseline else 0
        sizes = {"networks": len(own), "images": len(self._set.images), "random_draws": draws}
        return ReportRow(
            arch=model.arch,
            labels=labels,
            accuracies=own,
            random_accuracies=found.get((_RANDOM, True), ()),
            protocol=_protocol(trial, self._config, self._dataset, self._context, **sizes),
            coresets={name: found[name, True] for name in self._coresets},
            whole=tuple(self._whole.get(model.arch, ())) if labels == "hard" else (),
            unaugmented={name: values for (name, augmented), values in found.items() if not augmented},
        )

    def _measured(self, model: ModelConfig, labels: str) -> dict[tuple[str, bool], tuple[float, ...]]:
        """The accuracies of each group: of as many networks as asked for, or as the interval takes."""
        interval, number = self._config.interval, self._config.repeats

        def trials(name: str, augmented: bool) -> list[Trial]:
            of = partial(Trial, model=model, labels=labels, images=name, augmented=augmented)
            return [of(repeat=repeat) for repeat in range(number)]

        while True:
            planned = [trials(*group) for group in self.groups]
            self.accuracies.of([trial for group in planned for trial in group])
            found = {group: self.accuracies.of(each) for group, each in zip(self.groups, planned, strict=True)}
            wanted = _wanted(found[_OWN, True], interval) if interval else number
            if wanted <= number:
                return found
            if number >= _MOST:
                text = f"{number} networks leave an interval wider than {interval}: no more are trained"
                self._context.emit(Note(text=text, level="warning"))
                return found
            more = min(wanted, _MOST) - number
            self.accuracies.total += more * len(self.groups)
            number += more

    def _source(self, trial: Trial) -> Source:
        """The set's images, or real ones by how they were chosen: those of a repeat, if there are several draws."""
        s = self._set
        pixels, hard, soft = s.images, s.labels, s.logits
        if trial.images in self._real:
            real = self._real[trial.images]
            draw = trial.repeat % len(real.index_DM)
            pixels, hard = exact_images(self._dataset.train, s.preprocessing, real.index_DM[draw])
            soft = real.logits_DMK[draw]
        targets = soft if trial.labels == "soft" else hard
        return TensorSource(pixels.to(self._context.device), targets.to(self._context.device))


def _wanted(accuracies: Sequence[float], interval: float) -> int:
    """How many networks an interval of the mean that reaches `interval` to either side will take, by those at hand.

    At most twice as many as there are: the spread of a few says little.
    """
    bounds, number = intervals.of_mean(accuracies), len(accuracies)
    if bounds is None:
        return number + 2
    reach = max(abs(end - fmean(accuracies)) for end in bounds)
    if reach <= interval:
        return number
    return min(max(number + 1, math.ceil(number * (reach / interval) ** 2)), 2 * number)


def _protocol(trial: Trial, config: EvalConfig, dataset: Dataset, context: Context, **sizes: int) -> dict[str, Any]:
    """What a row says of how it was measured, read from what ran."""
    model, changed = trial.model, overridden(config)
    return {
        "name": config.protocol,
        **({"overridden": ", ".join(changed)} if changed else {}),
        "networks": sizes.pop("networks"),
        **({"interval": config.interval} if config.interval else {}),
        **({"width": model.width} if ARCHITECTURES[model.arch].scales else {}),
        **procedure_of(config, trial).describe(config),
        **sizes,
        "test_images": len(dataset.test),
        **({"test_split": dataset.split} if dataset.split else {}),
        "precision": context.precision,
        "selection": "last epoch",
    }
