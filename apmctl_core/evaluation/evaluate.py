"""Evaluation: networks trained on a set, tested on the test split, beside as many random real images.

Random real images get the same labels, protocol and number of networks. The test split decides nothing: the accuracy
is that of the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from apmctl_core.evaluation.trial import OWN, RANDOM, WHOLE, AtOnce, Bench, Images, Trial, procedure_of
from apmctl_core.events import Note, Progress
from apmctl_core.machine.cost import Cost
from apmctl_core.models import ARCHITECTURES, NetworkSize
from apmctl_core.models.size import ALL_GRADIENTS, FORWARD
from apmctl_core.training.checkpoint import Snapshot
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource
from apmctl_core.values import Baseline, DistilledSet, Task

_STATE = "networks"
_MOST = 200  # networks that an interval may ask for


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset,
    models: Sequence[ModelConfig],
    config: EvalConfig,
    context: Context,
    coresets: Mapping[str, Baseline] | None = None,
    whole: Mapping[str, ReportRow] | None = None,
    at_once: AtOnce | None = None,
) -> tuple[ReportRow, ...]:
    """Train and test `config.repeats` networks for each architecture and kind of labels.

    As many are trained on random real images, and on each of `coresets`; more where `config.interval` asks for it.
    `whole` are the rows of networks that were trained on all real images, by architecture. Accuracies are kept as they
    come. `at_once` trains several networks at a time, otherwise they are trained one after the other. Raises
    NumericsError where a training diverges.
    """
    images = Images(distilled, dataset, coresets or {}, context)
    accuracies = _Accuracies(Bench(dataset, distilled.preprocessing, images, config, context), context, at_once)
    work = _Evaluation(images, tuple(coresets or ()), whole or {}, accuracies, config, context)
    rows = [(model, labels) for model in models for labels in config.labels]
    work.choose(rows)
    first = [trial for row in rows for trial in work.trials(*row, config.repeats)]
    accuracies.total += len(first)
    accuracies.of(first)
    return with_scores([work.row(model, labels) for model, labels in rows])


def evaluate_whole(
    dataset: Dataset, preprocessing: Preprocessing, model: ModelConfig, config: EvalConfig, context: Context
) -> tuple[ReportRow, ...]:
    """The row of networks that are trained on all real images, under their class labels."""
    train = RealSource(dataset.train, preprocessing, context.device, context.precision)
    accuracies = _Accuracies(Bench(dataset, preprocessing, lambda _: train, config, context), context)
    trials = [Trial(model=model, labels="hard", images=WHOLE, repeat=repeat) for repeat in range(config.repeats)]
    accuracies.total = len(trials)
    said = _protocol(trials[0], config, dataset, context, networks=len(trials), images=len(train))
    return (ReportRow(model.arch, "hard", accuracies.of(trials), (), said),)


def cost(config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize]) -> Cost:
    """What an evaluation asks of the machine at its heaviest: the networks that share compiled code."""
    groups = 2 + len(config.baseline) + (2 if config.unaugmented else 0)  # the set, random images, coresets
    return _cost(config, images, task, sizes, networks=config.repeats * groups, held=2 * images)


def cost_of_whole(config: EvalConfig, task: Task, size: NetworkSize) -> Cost:
    """What training on all real images asks of the machine; they are read a batch at a time."""
    whole = _cost(config, task.train, task, [size], networks=config.repeats, held=2 * config.batch)
    return replace(whole, networks=1)  # they train one after the other, each with all threads


def _cost(
    config: EvalConfig, images: int, task: Task, sizes: Sequence[NetworkSize], *, networks: int, held: int
) -> Cost:
    """The cost of so many networks, each trained on so many images, of which `held` are in memory."""
    passes, step = networks * (config.epochs * images * ALL_GRADIENTS + task.test * FORWARD), min(config.batch, images)
    steps = networks * config.epochs * math.ceil(images / config.batch)
    costs = [size.cost(task, passes=passes, step=step, fixed_bytes=held * task.image_bytes) for size in sizes]
    heaviest = max(costs, key=lambda c: c.step_flops)
    mixes = any(PROTOCOLS[config.protocol].procedures[labels].mix for labels in config.labels)
    whole = step if mixes else max(c.whole for c in costs)
    return replace(heaviest, image_bytes=max(c.image_bytes for c in costs), whole=whole, networks=networks, steps=steps)


class _Accuracies:
    """The accuracies of networks, of `total` in all; each is measured once, and kept."""

    total = 0

    def __init__(self, bench: Bench, context: Context, at_once: AtOnce | None = None) -> None:
        self._bench, self._context, self._measured = bench, context, at_once or self._in_turn
        kept = context.keeper.load(_STATE)
        self._known: dict[str, float] = dict(kept.meta["accuracies"]) if kept else {}
        self._segment = context.runtime.resumed(kept.segment) if kept else context.segment

    def of(self, trials: Sequence[Trial]) -> tuple[float, ...]:
        """Those of trials, known or measured."""
        missing = [trial for trial in trials if trial.key not in self._known]
        if missing:
            for trial, accuracy in self._measured(missing):
                self._keep(trial.key, accuracy)
        return tuple(self._known[trial.key] for trial in trials)

    def _in_turn(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, float]]:
        for trial in trials:
            work = partial(self._bench.accuracy, trial)
            accuracy, self._segment = self._context.attempt(work, self._segment)
            yield trial, accuracy

    def _keep(self, key: str, accuracy: float) -> None:
        self._known[key] = accuracy
        done, metrics = len(self._known), {"accuracy": accuracy}
        event = Progress(stage="evaluate", done=done, total=self.total, unit="network", metrics=metrics)
        snapshot = Snapshot({}, {"accuracies": self._known}, self._segment.limit, event)
        self._context.keeper.save(_STATE, snapshot)
        self._context.emit(event)


class _Evaluation:
    """What the rows of a report share."""

    def __init__(
        self,
        images: Images,
        coresets: Sequence[str],
        whole: Mapping[str, ReportRow],
        accuracies: _Accuracies,
        config: EvalConfig,
        context: Context,
    ) -> None:
        self._images, self._coresets, self._whole = images, coresets, whole
        self._accuracies, self._config, self._context = accuracies, config, context
        # What networks are trained on, and whether they see it augmented.
        self._groups = [(name, True) for name in images.names]
        if config.unaugmented:
            self._groups += [(name, False) for name in images.names if name not in coresets]
        self._rates: dict[Trial, float] = {}  # by the first trial of a group of a row

    def choose(self, rows: Sequence[tuple[ModelConfig, str]]) -> None:
        """Choose the learning rate of each group of each row, if there are several, by one network at each."""
        rates = self._config.rates or ()
        firsts = [trial for row in rows for trial in self.trials(*row, 1)] if rates else []
        tried = {first: [replace(first, lr=lr, held_out=True) for lr in rates] for first in firsts}
        self._accuracies.total += len(firsts) * len(rates)
        self._accuracies.of([trial for trials in tried.values() for trial in trials])
        for first, trials in tried.items():
            found = self._accuracies.of(trials)
            self._rates[first] = rates[found.index(max(found))]

    def trials(self, model: ModelConfig, labels: str, number: int) -> list[Trial]:
        """The networks of a row, so many on each group of images."""
        firsts = [
            Trial(model=model, labels=labels, images=images, repeat=0, augmented=augmented)
            for images, augmented in self._groups
        ]
        return [replace(f, repeat=repeat, lr=self._rates.get(f)) for f in firsts for repeat in range(number)]

    def row(self, model: ModelConfig, labels: str) -> ReportRow:
        """The networks of one architecture and kind of labels."""
        found = self._measured(model, labels)
        own, distilled = found[OWN, True], self._images.distilled
        firsts = self.trials(model, labels, 1)
        draws = len(distilled.baseline.index_DM) if distilled.baseline else 0
        sizes = {"networks": len(own), "images": len(distilled.images), "random_draws": min(draws, len(own))}
        whole = self._whole.get(model.arch) if labels == "hard" else None
        if whole is not None:
            sizes["whole_epochs"] = whole.protocol["epochs"]
        return ReportRow(
            arch=model.arch,
            labels=labels,
            accuracies=own,
            random_accuracies=found.get((RANDOM, True), ()),
            protocol=_protocol(firsts[0], self._config, self._images.dataset, self._context, **sizes)
            | ({"lr": firsts[0].lr, "chosen_lr": _chosen(firsts)} if self._rates else {}),
            coresets={name: found[name, True] for name in self._coresets},
            whole=whole.accuracies if whole else (),
            unaugmented={name: values for (name, augmented), values in found.items() if not augmented},
        )

    def _measured(self, model: ModelConfig, labels: str) -> dict[tuple[str, bool], tuple[float, ...]]:
        """The accuracies of each group: of as many networks as asked for, or as the interval takes."""
        interval, number = self._config.interval, self._config.repeats
        while True:
            values = self._accuracies.of(self.trials(model, labels, number))
            found = {group: values[at * number : (at + 1) * number] for at, group in enumerate(self._groups)}
            wanted = _wanted(found[OWN, True], interval) if interval else number
            if wanted <= number:
                return found
            if number >= _MOST:
                text = f"{number} networks leave an interval wider than {interval}: no more are trained"
                self._context.emit(Note(text=text, level="warning"))
                return found
            more = min(wanted, _MOST) - number
            self._accuracies.total += more * len(self._groups)
            number += more


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


def _chosen(firsts: Sequence[Trial]) -> str:
    """The learning rates that were chosen on held-out training images, in words."""
    return ", ".join(f"{f.images}{'' if f.augmented else ' unaugmented'} {f.lr:g}" for f in firsts)


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
