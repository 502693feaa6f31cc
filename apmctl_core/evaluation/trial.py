"""A trial: one network of an evaluation, trained on some images and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.data import Dataset, Split
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.errors import ConfigError, NumericsError
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.machine.segment import Segment
from apmctl_core.models import build
from apmctl_core.training.context import Context
from apmctl_core.training.examples import RealSource, Source, TensorSource, exact_images
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.procedure import Procedure
from apmctl_core.values import Baseline, DistilledSet

OWN, RANDOM, WHOLE = "distilled", "random", "whole"  # names of images that networks are trained on
_HELD_OUT = 5000  # images to choose by, at most


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The network number `repeat` of those that are trained on `images`, by their name, under a kind of labels.

    `lr` is its learning rate where the evaluation's does not hold; one that is `held_out` is tested on training images.
    """

    model: ModelConfig
    labels: str
    images: str
    repeat: int
    augmented: bool = True
    lr: float | None = None
    held_out: bool = False

    @property
    def row(self) -> str:
        """The name of the row of a report that it belongs to."""
        return f"{self.model.arch}/{self.model.width}/{self.labels}"

    @property
    def key(self) -> str:
        """The name under which its accuracy is kept."""
        return "/".join(map(str, (self.row, self.images, self.repeat, *self.kind)))

    @property
    def kind(self) -> tuple[str | float, ...]:
        """What sets it apart from the plain network of its number."""
        plain = () if self.augmented else ("unaugmented",)
        return (*plain, "rate", self.lr or 0.0) if self.held_out else plain


# Measures several trials at a time, and gives each with its accuracy as it is done.
AtOnce = Callable[[Sequence[Trial]], Iterator[tuple[Trial, float]]]


class Images:
    """What trials are trained on: the set's images, random real ones if it has them, coresets."""

    def __init__(
        self, distilled: DistilledSet, dataset: Dataset, coresets: Mapping[str, Baseline], context: Context
    ) -> None:
        self.distilled, self.dataset, self._device = distilled, dataset, context.device
        self._real = {**({RANDOM: distilled.baseline} if distilled.baseline else {}), **coresets}

    @property
    def names(self) -> list[str]:
        return [OWN, *self._real]

    def held_out(self, trial: Trial, rng: torch.Generator) -> Split:
        """Training images to choose by: a fifth of them, at most 5,000, less those that the trial is trained on.

        Raises ConfigError where none is left.
        """
        train = self.dataset.train
        fifth = torch.randperm(len(train), generator=rng)[: min(len(train) // 5, _HELD_OUT)].numpy()
        real = self._real.get(trial.images)
        index = np.setdiff1d(fifth, [] if real is None else real.index_DM[trial.repeat % len(real.index_DM)].numpy())
        if not len(index):
            hint = "leave `evaluate.rates` out, and give `evaluate.lr`"
            raise ConfigError("no training images are left to choose a learning rate by", hint)
        return Split(train.images[index], train.labels[index])

    def __call__(self, trial: Trial) -> Source:
        """Images and targets of a trial. Of real images in several draws, those of its repeat."""
        s = self.distilled
        pixels, hard, soft = s.images, s.labels, s.logits
        if trial.images in self._real:
            real = self._real[trial.images]
            draw = trial.repeat % len(real.index_DM)
            pixels, hard = exact_images(self.dataset.train, s.preprocessing, real.index_DM[draw])
            soft = real.logits_DMK[draw]
        targets = soft if trial.labels == "soft" else hard
        return TensorSource(pixels.to(self._device), targets.to(self._device))


class Bench:
    """Trains and tests networks, one after the other; those of a row share compiled code.

    `source` gives what a trial is trained on.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Callable[[Trial], Source],
        config: EvalConfig,
        context: Context,
    ) -> None:
        self._dataset, self._source, self._config, self._context = dataset, source, config, context
        self._real = partial(
            RealSource, preprocessing=preprocessing, device=context.device, precision=context.precision
        )
        self._test = self._real(dataset.test)
        self._prepared: tuple[ModelConfig, Procedure, Trainer, Predictor] | None = None

    def accuracy(self, trial: Trial, segment: Segment) -> float:
        """The accuracy of a trial's network at its last epoch. Raises NumericsError where its training diverges."""
        trainer, predict = self._networks(trial.model, procedure_of(self._config, trial))
        stream = self._context.stream.at(trial.row, trial.images, trial.repeat, *map(str, trial.kind))
        config = self._config if trial.lr is None else replace(self._config, lr=trial.lr)
        initial = build(trial.model, self._dataset.shape, self._dataset.num_classes, stream.at("weights").number)
        last = torch.zeros(())

        def after_epoch(epoch: int, total: Tensor) -> None:
            nonlocal last
            last = total
            if epoch == 1:
                self._context.checkpoint(segment)

        source = self._source(trial)
        trainer.fit(initial.state_dict(), source, config, stream, segment, after_epoch=after_epoch)
        if not torch.isfinite(last):
            name = f"{trial.row}, {trial.images}, network {trial.repeat}"
            raise NumericsError(f"the training of {name} diverged", "try a lower `evaluate.lr`")
        predict.load(trainer.weights())
        return predict.accuracy(self._tested(trial), segment)

    def _tested(self, trial: Trial) -> Source:
        """The test split, or training images to choose by."""
        if trial.held_out and isinstance(self._source, Images):
            return self._real(self._source.held_out(trial, self._context.stream.at("held out").generator()))
        return self._test

    def _networks(self, model: ModelConfig, procedure: Procedure) -> tuple[Trainer, Predictor]:
        """What trains and tests such networks: that of the trial before, if it was of the same row."""
        if self._prepared is None or self._prepared[:2] != (model, procedure):
            network, other = (build(model, self._dataset.shape, self._dataset.num_classes) for _ in range(2))
            trainer, predict = Trainer(network, procedure, self._context), Predictor(other, self._context)
            self._prepared = model, procedure, trainer, predict
        return self._prepared[2:]


def procedure_of(config: EvalConfig, trial: Trial) -> Procedure:
    """How the network of a trial is trained, by the protocol of the evaluation."""
    procedure = PROTOCOLS[config.protocol].procedures[trial.labels]
    return procedure if trial.augmented else procedure.plain()
