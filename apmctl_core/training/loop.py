"""The one supervised loop. Teachers, students and evaluation differ in source, loss and schedule, in nothing else.

Shape legend: N examples in a source, B in a batch, S in a segment, K classes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apmctl_core.machine.runtime import Compiled, Runtime, autocast
from apmctl_core.machine.segment import Segment, padded, segments
from apmctl_core.seeding import Stream
from apmctl_core.training import losses
from apmctl_core.training.examples import Examples, Source
from apmctl_core.training.feed import cuts, feed
from apmctl_core.values import State

Loss = Callable[[Tensor, Tensor], Tensor]

_TESTED = 500  # images at once, unless a segment is shorter


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy with class labels, one number an image."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def match_logits(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """d between a network's logits and soft labels, one number an image."""
    return losses.discrepancy(targets_BK, logits_BK)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """SGD with momentum and weight decay for so many epochs; the learning rate drops tenfold at half of them."""

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    batch: int

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.lr * (0.1 if epoch >= self.epochs // 2 and self.epochs > 1 else 1.0)


@dataclass
class Progressed:
    """Where a training stands: the epochs done, weights and momentum. Enough to go on from, bit for bit."""

    epoch: int
    weights: State
    momentum: State


class Trainer:
    """Trains one network, over and over, from whatever weights it is given; compiled code is reused."""

    def __init__(
        self, network: nn.Module, loss: Loss, runtime: Runtime, precision: str, *, batch: int, augmented: bool = True
    ) -> None:
        self.network = network.to(runtime.device)
        self._loss = loss
        self._runtime = runtime
        self._precision = precision
        self._augmented = augmented
        self._batch = batch
        self._objective = Compiled(self._weighted_loss, runtime)

    def _weighted_loss(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        with autocast(self._runtime.device, self._precision):
            logits = self.network(x)
        return (self._loss(logits.float(), target) * weight).sum()

    def fit(
        self,
        initial: State,
        source: Source,
        schedule: Schedule,
        stream: Stream,
        *,
        resume: Progressed | None = None,
        after_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """Train from `initial` weights, or from where `resume` stands.

        `after_epoch` gets the number of epochs done and the epoch's summed loss, still on the device: reading it
        waits for the device, so it is read at event times only.
        """
        self.network.load_state_dict(resume.weights if resume else initial)
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            fused=self._runtime.device.type in ("cpu", "cuda"),
        )
        if resume:
            self._restore_momentum(resume.momentum)
        first = resume.epoch if resume else 0
        # The last batch of an epoch is cut as a full one is, so that compiled code sees one shape.
        size = self._runtime.segment.length(min(self._batch, len(source)))
        counts = [len(step) for step in torch.arange(len(source)).split(schedule.batch)]
        epochs = range(first, schedule.epochs)
        wanted = (cuts(len(source), schedule.batch, size, stream.at("epoch", epoch)) for epoch in epochs)
        examples = feed(source, itertools.chain.from_iterable(wanted), augmented=self._augmented)
        with contextlib.closing(examples):
            for epoch in epochs:
                self._optimiser.param_groups[0]["lr"] = schedule.rate(epoch)
                total = torch.zeros((), device=self._runtime.device)
                for count in counts:
                    total += self._step(examples, count, size)
                if after_epoch:
                    after_epoch(epoch + 1, total / len(source))

    def _step(self, examples: Iterator[Examples], count: int, size: int) -> Tensor:
        """One step on the next `count` examples, its gradient accumulated over segments; returns their summed loss."""
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._runtime.device)
        for _, length in segments(count, size, pad=bool(self._runtime.compile)):
            x, target = next(examples)
            weight = padded(torch.full((len(x),), 1 / count, device=x.device), length, zero=True)
            loss = self._objective(padded(x, length), padded(target, length), weight)
            loss.backward()
            total += loss.detach()
        self._optimiser.step()
        return total * count

    def weights(self) -> State:
        """A copy of the network's weights, on its device."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def progressed(self, epoch: int) -> Progressed:
        """Where the training stands after `epoch` epochs, copied to the CPU."""
        momentum = {
            name: self._optimiser.state[p]["momentum_buffer"].detach().cpu().clone()
            for name, p in self.network.named_parameters()
            if "momentum_buffer" in self._optimiser.state.get(p, {})
        }
        return Progressed(epoch, {k: v.cpu() for k, v in self.weights().items()}, momentum)

    def _restore_momentum(self, momentum: State) -> None:
        for name, p in self.network.named_parameters():
            if name in momentum:
                self._optimiser.state[p]["momentum_buffer"] = momentum[name].to(p.device).clone()


class Predictor:
    """Logits of one architecture under any weights, in segments, without gradients."""

    def __init__(self, network: nn.Module, runtime: Runtime, precision: str) -> None:
        self.network = network.to(runtime.device).requires_grad_(False)
        self._runtime = runtime
        self._precision = precision
        self._forward = Compiled(self._logits, runtime)

    def _logits(self, x: Tensor) -> Tensor:
        with autocast(self._runtime.device, self._precision):
            logits: Tensor = self.network(x)
        return logits.float()

    def load(self, weights: State) -> None:
        """Use these weights from now on."""
        self.network.load_state_dict(weights)

    @torch.no_grad()
    def __call__(self, x: Tensor, length: int = 0) -> Tensor:
        """Logits (B, K) of images (B, C, H, W), padded to `length` rows for compiled code."""
        logits: Tensor = self._forward(padded(x, length))
        return logits[: len(x)]


def accuracy(predict: Predictor, source: Source, segment: Segment) -> float:
    """The share of a source's examples whose class label a network gets right."""
    size = segment.length(min(_TESTED, len(source)))
    correct: int | Tensor = 0
    for index in torch.arange(len(source)).split(size):
        x, labels = source.batch(index)
        correct += (predict(x, size).argmax(1) == labels).sum()
    return int(correct) / len(source)
