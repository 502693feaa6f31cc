"""How a network is trained: loss, optimiser, schedule, augmentation. What a report states is read from what ran."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from apmctl_core.config import TrainConfig
from apmctl_core.training import losses
from apmctl_core.training.augment import DSA, Augmentation
from apmctl_core.training.mixing import Mix

F = TypeVar("F")


@dataclass(frozen=True)
class Named(Generic[F]):
    """A function with the name that reports give it."""

    name: str
    function: F


Loss = Named[Callable[[Tensor, Tensor], Tensor]]  # logits (B, K) and targets -> one number an image
Schedule = Named[Callable[[int, int], float]]  # epoch (from 0) and number of epochs -> factor on the learning rate


@dataclass(frozen=True)
class Optimiser(Named[Callable[[Iterable[nn.Parameter], TrainConfig, torch.device], torch.optim.Optimizer]]):
    """An optimiser and the settings of a training that it looks at."""

    settings: tuple[str, ...]


def _sgd(parameters: Iterable[nn.Parameter], config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def _adamw(parameters: Iterable[nn.Parameter], config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def _tenth_at_half(epoch: int, epochs: int) -> float:
    return 0.1 if epoch >= epochs // 2 and epochs > 1 else 1.0


def _cosine(epoch: int, epochs: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _halved_at_fifths(epoch: int, epochs: int) -> float:
    return 0.5 ** sum(epoch >= part * (epochs // 5) for part in range(1, 5)) if epochs >= 5 else 1.0


_DRAWN = {"image": "an image", "batch": "a batch"}

CROSS_ENTROPY = Loss("cross-entropy", losses.cross_entropy)
KL_AT_20 = Loss("kl divergence at temperature 20", functools.partial(losses.kl_divergence, temperature=20.0))
SOFT_CROSS_ENTROPY = Loss("soft cross-entropy", losses.soft_cross_entropy)
MATCH_LOGITS = Loss("l1 on logits", losses.discrepancy)
TENTH_AT_HALF = Schedule("x0.1 at half", _tenth_at_half)
COSINE = Schedule("cosine", _cosine)
HALVED_AT_FIFTHS = Schedule("x0.5 at each fifth", _halved_at_fifths)
SGD = Optimiser("sgd", _sgd, ("lr", "momentum", "weight_decay"))
ADAMW = Optimiser("adamw", _adamw, ("lr", "weight_decay"))


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """How to train. The defaults are those of the published runs (METHOD: settings)."""

    loss: Loss
    optimiser: Optimiser = SGD
    schedule: Schedule = TENTH_AT_HALF
    augmentation: Augmentation | None = DSA
    mix: Mix | None = None

    def plain(self) -> Procedure:
        """The same with images as they are."""
        return replace(self, augmentation=None, mix=None)

    def describe(self, config: TrainConfig) -> dict[str, Any]:
        """What a report says of a training by this procedure."""
        return {
            "epochs": config.epochs,
            "batch": config.batch,
            "optimiser": self.optimiser.name,
            **{name: getattr(config, name) for name in self.optimiser.settings},
            "schedule": self.schedule.name,
            "augmentation": self._augmentation(config),
            "loss": self.loss.name,
        }

    def _augmentation(self, config: TrainConfig) -> str:
        names = [each.name for each in (self.augmentation, self.mix) if each]
        if self.augmentation is DSA:
            names[0] += f", one transformation {_DRAWN[config.dsa]}"
        return "; ".join(names) or "none"
