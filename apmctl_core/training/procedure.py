"""How a network is trained: loss, optimiser, schedule, augmentation. What a report states is read from what ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from apmctl_core.config import TrainConfig
from apmctl_core.training import losses

F = TypeVar("F")


@dataclass(frozen=True)
class Named(Generic[F]):
    """A function with the name that reports give it."""

    name: str
    function: F


Loss = Named[Callable[[Tensor, Tensor], Tensor]]  # logits (B, K) and targets -> one number an image
Schedule = Named[Callable[[int, int], float]]  # epoch (from 0) and number of epochs -> factor on the learning rate
Optimiser = Named[Callable[[Iterable[nn.Parameter], TrainConfig, torch.device], torch.optim.Optimizer]]


def _sgd(parameters: Iterable[nn.Parameter], config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def _tenth_at_half(epoch: int, epochs: int) -> float:
    return 0.1 if epoch >= epochs // 2 and epochs > 1 else 1.0


_DRAWN = {"image": "an image", "batch": "a batch"}

CROSS_ENTROPY = Loss("cross-entropy", losses.cross_entropy)
SOFT_CROSS_ENTROPY = Loss("soft cross-entropy", losses.soft_cross_entropy)
MATCH_LOGITS = Loss("l1 on logits", losses.discrepancy)
TENTH_AT_HALF = Schedule("x0.1 at half", _tenth_at_half)
SGD = Optimiser("sgd", _sgd)


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """How to train. The defaults are those of the published runs (METHOD: settings)."""

    loss: Loss
    optimiser: Optimiser = SGD
    schedule: Schedule = TENTH_AT_HALF
    augmented: bool = True  # by DSA

    def describe(self, config: TrainConfig) -> dict[str, Any]:
        """What a report says of a training by this procedure."""
        return {
            "epochs": config.epochs,
            "batch": config.batch,
            "optimiser": self.optimiser.name,
            "lr": config.lr,
            "momentum": config.momentum,
            "weight_decay": config.weight_decay,
            "schedule": self.schedule.name,
            "augmentation": f"dsa, one transformation {_DRAWN[config.dsa]}" if self.augmented else "none",
            "loss": self.loss.name,
        }
