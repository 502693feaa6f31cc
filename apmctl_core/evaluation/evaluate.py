"""Evaluation: networks trained on a set, tested on the test split, beside as many random real images.

The protocol is APM's: several networks from random weights, SGD with the rate dropped at half, DSA, the accuracy at
the last epoch. Random real images get the same labels, epochs and networks. The test split decides nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.data import Dataset
from apmctl_core.errors import NumericsError
from apmctl_core.events import Emit, Progress, silent
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models.registry import build
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Keeper, Nowhere, Snapshot
from apmctl_core.training.examples import RealSource, Source, TensorSource
from apmctl_core.training.loop import Predictor, Schedule, Trainer, accuracy, cross_entropy, match_logits
from apmctl_core.values import DistilledSet

_LOSSES = {"soft": match_logits, "hard": cross_entropy}


@dataclass(frozen=True)
class Row:
    """Accuracies (fractions) of networks of one architecture trained with one kind of labels."""

    arch: str
    labels: str
    accuracies: tuple[float, ...]
    random_accuracies: tuple[float, ...]
    protocol: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The row as the command line's JSON has it; null where there is nothing to compare with."""
        mean, std = _mean_std(self.accuracies)
        random_mean, random_std = _mean_std(self.random_accuracies)
        return {
            "arch": self.arch,
            "labels": self.labels,
            "accuracy_mean": mean,
            "accuracy_std": std,
            "accuracies": list(self.accuracies),
            "random_accuracy_mean": random_mean,
            "random_accuracy_std": random_std,
            "random_accuracies": list(self.random_accuracies),
            "protocol": self.protocol,
        }


def _mean_std(values: tuple[float, ...]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    t = torch.tensor(values, dtype=torch.float64)
    return float(t.mean()), float(t.std(correction=0))


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset,
    models: list[ModelConfig],
    config: EvalConfig,
    *,
    stream: Stream,
    runtime: Runtime,
    precision: str,
    keeper: Keeper | None = None,
    emit: Emit = silent,
) -> list[Row]:
    """Train and test `config.repeats` networks for each architecture and kind of labels, and as many on random images.

    Accuracies found so far are saved with `keeper`. Raises NumericsError where a training diverges.
    """
    work = _Work(distilled, dataset, config, stream, runtime, precision, keeper or Nowhere(), emit)
    work.total = len(models) * len(config.labels) * config.repeats * (2 if distilled.baseline else 1)
    return [work.row(model, labels) for model in models for labels in config.labels]


class _Work:
    def __init__(
        self,
        distilled: DistilledSet,
        dataset: Dataset,
        config: EvalConfig,
        stream: Stream,
        runtime: Runtime,
        precision: str,
        keeper: Keeper,
        emit: Emit,
    ) -> None:
        self._set = distilled
        self._dataset = dataset
        self._config = config
        self._stream = stream
        self._runtime = runtime
        self._precision = precision
        self._keeper = keeper
        self._emit = emit
        self._test = RealSource(dataset.test, distilled.preprocessing, runtime.device, precision)
        kept = self._keeper.load("networks")
        self._found: dict[str, float] = dict(kept.meta["accuracies"]) if kept else {}
        self.total = 0

    def row(self, model: ModelConfig, labels: str) -> Row:
        """One row of the report: all networks of one architecture and kind of labels."""
        networks = _Networks(self, model, labels)
        repeats = range(self._config.repeats)
        own = tuple(networks.accuracy("distilled", i, lambda _: self._distilled(labels)) for i in repeats)
        random: tuple[float, ...] = ()
        if self._set.baseline is not None:
            random = tuple(networks.accuracy("random", i, lambda i: self._random(labels, i)) for i in repeats)
        return Row(model.arch, labels, own, random, self._protocol(model, labels))

    def _distilled(self, labels: str) -> Source:
        targets = self._set.logits if labels == "soft" else self._set.labels
        return TensorSource(self._set.images.to(self._runtime.device), targets.to(self._runtime.device))

    def _random(self, labels: str, repeat: int) -> Source:
        """The random real images of one repeat, in the set's space; each repeat has a draw of its own if there is."""
        baseline = self._set.baseline
        assert baseline is not None
        draw = repeat % len(baseline.index_DM)
        real = RealSource(self._dataset.train, self._set.preprocessing, self._runtime.device, "fp32")
        parts = [real.batch(part) for part in baseline.index_DM[draw].split(1000)]
        hard = torch.cat([part[1] for part in parts])
        soft = baseline.logits_DMK[draw].to(self._runtime.device)
        return TensorSource(torch.cat([part[0] for part in parts]), soft if labels == "soft" else hard)

    def _protocol(self, model: ModelConfig, labels: str) -> dict[str, Any]:
        c = self._config
        return {
            "networks": c.repeats,
            "width": model.width,
            "epochs": c.epochs,
            "batch": c.batch,
            "optimiser": "sgd",
            "lr": c.lr,
            "momentum": c.momentum,
            "weight_decay": c.weight_decay,
            "schedule": "x0.1 at half",
            "augmentation": "dsa",
            "loss": "l1 on logits" if labels == "soft" else "cross-entropy",
            "images": len(self._set.images),
            "random_draws": len(self._set.baseline.index_DM) if self._set.baseline else 0,
            "test_images": len(self._dataset.test.labels),
            "precision": self._precision,
            "selection": "last epoch",
        }

    def remember(self, key: str, found: float) -> None:
        """Keep an accuracy and say how far the evaluation is."""
        self._found[key] = found
        progress = {"done": len(self._found), "total": self.total, "unit": "network"}
        self._keeper.save("networks", Snapshot({}, {"accuracies": self._found, "progress": progress}))
        self._emit(
            Progress(
                stage="evaluate",
                done=len(self._found),
                total=self.total,
                unit="network",
                metrics={"accuracy": found},
            )
        )


class _Networks:
    """The networks of one row: they share compiled code."""

    def __init__(self, work: _Work, model: ModelConfig, labels: str) -> None:
        dataset, c = work._dataset, work._config
        self._work = work
        self._name = f"{model.arch}/{model.width}/{labels}"
        self._build = functools.partial(build, model, dataset.shape, dataset.num_classes)
        self._trainer = Trainer(self._build(0), _LOSSES[labels], work._runtime, work._precision, batch=c.batch)
        self._predict = Predictor(self._build(0), work._runtime, work._precision)
        self._schedule = Schedule(
            epochs=c.epochs, lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay, batch=c.batch
        )

    def accuracy(self, what: str, repeat: int, source: Callable[[int], Source]) -> float:
        """The test accuracy of one network trained on `source(repeat)`, found again or measured."""
        key = f"{self._name}/{what}/{repeat}"
        if key in self._work._found:
            return self._work._found[key]
        stream, runtime = self._work._stream.at(self._name, what, repeat), self._work._runtime
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch == 1:
                runtime.segment.checkpoint(runtime.device)

        initial = self._build(stream.at("weights").number).state_dict()
        images = source(repeat)

        def trained() -> float:
            self._trainer.fit(initial, images, self._schedule, stream, after_epoch=after_epoch)
            if not torch.isfinite(last):
                raise NumericsError(f"network {repeat} ({self._name}, {what}) diverged", "try a lower --lr")
            self._predict.load(self._trainer.weights())
            return accuracy(self._predict, self._work._test, runtime.segment)

        found = runtime.segment.attempt(trained, runtime.device)
        self._work.remember(key, found)
        return found
