"""The one supervised loop. Teachers, students and evaluation differ in source, procedure and numbers, in nothing else.

Shape legend: N examples in a source, B in a batch, S in a segment, K classes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apmctl_core.config import TrainConfig
from apmctl_core.machine.device import autocast
from apmctl_core.machine.segment import Segment, padded, segments
from apmctl_core.models.registry import Habits
from apmctl_core.seeding import Stream
from apmctl_core.training.augment import NUMBERS
from apmctl_core.training.context import Context
from apmctl_core.training.examples import Examples, Source
from apmctl_core.training.feed import cuts, feed
from apmctl_core.training.procedure import Procedure
from apmctl_core.values import State

_TESTED = 500  # images at once, unless a segment is shorter


@dataclass(frozen=True)
class TrainState:
    """Where a training stands: the epochs done, weights and momentum. Enough to go on from, bit for bit."""

    epoch: int
    weights: State
    momentum: State


class Trainer:
    """Trains one network, over and over, from whatever weights it is given; compiled code is reused.

    A network that depends on its batch, and a procedure that mixes images, get each batch whole, whatever the segment.
    A network that draws random numbers draws them from the stream of its training, and is not compiled: the compiler
    draws others.
    """

    def __init__(self, network: nn.Module, procedure: Procedure, context: Context) -> None:
        self.network = network.to(context.device)
        self.procedure = procedure
        self._context = context
        habits = getattr(network, "habits", Habits(mixes=False, draws=False))
        self._whole, self._draws = habits.depends_on_batch or procedure.mix is not None, habits.draws
        self._pads = bool(context.runtime.compile) and not self._whole
        objective = self._weighted_loss if procedure.mix is None else self._mixed_loss
        self._objective = (context.eager() if self._draws else context).compiled(objective)

    def _weighted_loss(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        with autocast(self._context.device, self._context.precision):
            logits = self.network(x)
        return (self.procedure.loss.function(logits.float(), target) * weight).sum()

    def _mixed_loss(self, x: Tensor, target: Tensor, other: Tensor, share: Tensor, weight: Tensor) -> Tensor:
        with autocast(self._context.device, self._context.precision):
            logits = self.network(x).float()
        loss = self.procedure.loss.function
        return ((share * loss(logits, target) + (1 - share) * loss(logits, other)) * weight).sum()

    def fit(
        self,
        initial: State,
        source: Source,
        config: TrainConfig,
        stream: Stream,
        segment: Segment,
        *,
        resume: TrainState | None = None,
        after_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """Train from `initial` weights, or from where `resume` stands.

        `after_epoch` gets the number of epochs done and the epoch's summed loss, still on the device: reading it
        waits for the device, so it is read at event times only.
        """
        self.network.load_state_dict(resume.weights if resume else initial)
        self.network.train()
        self._optimiser = self.procedure.optimiser.function(self.network.parameters(), config, self._context.device)
        if resume:
            self._restore_momentum(resume.momentum)
        batch = _batch_size(config.batch, len(source)) if self._whole else config.batch
        # The last batch of an epoch is cut as a full one is, so that compiled code sees one shape.
        most = min(batch, len(source))
        size = most if self._whole else segment.length(most)
        counts = [len(step) for step in torch.arange(len(source)).split(batch)]
        epochs = range(resume.epoch if resume else 0, config.epochs)
        augmentation = self.procedure.augmentation
        numbers = augmentation.numbers if augmentation else NUMBERS
        wanted = (cuts(len(source), batch, size, stream.at("epoch", epoch), config.dsa, numbers) for epoch in epochs)
        examples = feed(source, itertools.chain.from_iterable(wanted), augmentation=augmentation)
        # What dropout draws comes from the global generator, which is left as it was.
        devices = [self._context.device] if self._context.device.type == "cuda" else []
        with contextlib.closing(examples), torch.random.fork_rng(devices, enabled=self._draws):
            for epoch in epochs:
                if self._draws:
                    torch.manual_seed(stream.at("noise", epoch).number)
                self._optimiser.param_groups[0]["lr"] = config.lr * self.procedure.schedule.function(
                    epoch, config.epochs
                )
                total = torch.zeros((), device=self._context.device)
                mixing = stream.at("mix", epoch).generator() if self.procedure.mix else None
                for count in counts:
                    total += self._step(examples, count, size, mixing)
                if after_epoch:
                    after_epoch(epoch + 1, total / len(source))

    def _step(self, examples: Iterator[Examples], count: int, size: int, mixing: torch.Generator | None) -> Tensor:
        """One step on the next `count` examples, its gradient accumulated over segments; returns their summed loss."""
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._context.device)
        for _, length in segments(count, size, pad=self._pads):
            x, target = next(examples)
            weight = padded(torch.full((len(x),), 1 / count, device=x.device), length, zero=True)
            if self.procedure.mix is None or mixing is None:
                loss = self._objective(padded(x, length), padded(target, length), weight)
            else:  # the batch is whole
                mixed, partner, share = self.procedure.mix.function(x, mixing)
                loss = self._objective(mixed, target, target[partner], weight.new_tensor(share), weight)
            loss.backward()
            total += loss.detach()
        self._optimiser.step()
        return total * count

    def weights(self) -> State:
        """A copy of the network's weights, on its device."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def state(self, epoch: int) -> TrainState:
        """Where the training stands after `epoch` epochs, copied to the CPU."""
        momentum = {
            name: self._optimiser.state[p]["momentum_buffer"].detach().cpu().clone()
            for name, p in self.network.named_parameters()
            if "momentum_buffer" in self._optimiser.state.get(p, {})
        }
        return TrainState(epoch, {k: v.cpu() for k, v in self.weights().items()}, momentum)

    def _restore_momentum(self, momentum: State) -> None:
        for name, p in self.network.named_parameters():
            if name in momentum:
                self._optimiser.state[p]["momentum_buffer"] = momentum[name].to(p.device).clone()


def _batch_size(batch: int, count: int) -> int:
    """A batch size of at least `batch` that leaves no batch of one image, of which there are no statistics."""
    while batch > 1 and count > 1 and count % batch == 1:
        batch += 1
    return batch


class Predictor:
    """Logits of one architecture under any weights, in segments, without gradients, in evaluation mode."""

    def __init__(self, network: nn.Module, context: Context) -> None:
        self.network = network.to(context.device).requires_grad_(False).eval()
        self._context = context
        self._forward = context.compiled(self._logits)

    def _logits(self, x: Tensor) -> Tensor:
        with autocast(self._context.device, self._context.precision):
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

    def in_segments(self, x: Tensor, segment: Segment, most: int | None = None) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) on any device, at most `most` of them in a pass; on the device."""
        size = segment.length(min(most or len(x), len(x)))
        return torch.cat([self(part.to(self._context.device), size) for part in x.split(size)])

    def accuracy(self, source: Source, segment: Segment) -> float:
        """The share of a source's examples whose class label the network gets right."""
        size = segment.length(min(_TESTED, len(source)))
        correct: int | Tensor = 0
        for index in torch.arange(len(source)).split(size):
            x, labels = source.batch(index)
            correct += (self(x, size).argmax(1) == labels).sum()
        return int(correct) / len(source)
