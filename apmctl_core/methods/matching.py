"""The gradient of the images' loss (APM eq. 4), bounded in memory by a segment and one network's activations.

Shape legend: B images of a round, S of a segment, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from apmctl_core.machine.device import autocast
from apmctl_core.machine.segment import Segment, padded, segments
from apmctl_core.training import augment, losses
from apmctl_core.training.context import Context
from apmctl_core.values import State


class Matcher:
    """Gradients of L_u = mean over B of sum over checkpoints of -d(f_T(u), f_S(u)) + alpha CE(f_T(u), y).

    The gradient with respect to an image does not depend on the other images, and the sum over checkpoints can be
    taken one at a time: at any moment the activations of one network on one segment are held. The teacher is run
    once per segment without a graph, for the checkpoints to be compared with, and once with one, to carry back
    what all of them together, and its own cross-entropy, ask of it. Networks are in evaluation mode, except that batch
    normalisation goes by the statistics of the images at hand, as the students trained. By running statistics it would
    be a fixed scaling: logits then grow with an image's contrast, gradients do not fall, and images run out of the
    range of the data. Such networks get each image beside others, up to `batch` at a time, whatever the segment.
    """

    def __init__(self, network: nn.Module, objective: str, alpha: float, context: Context, batch: int = 0) -> None:
        self._network = network.to(context.device).requires_grad_(False).eval()
        self._shares = _normalise_by_batch(self._network)
        self._batch = batch
        self._objective = objective
        self._alpha = alpha
        self._context = context
        self._logits = context.compiled(self._forward)
        self._checkpoint_loss = context.compiled(self._checkpoint_term)
        self._teacher_loss = context.compiled(self._teacher_term)

    def _forward(self, weights: State, u: Tensor) -> Tensor:
        with autocast(self._context.device, self._context.precision):
            logits: Tensor = functional_call(self._network, dict(weights), (u,))
        # Losses are taken in at least float32; double stays double.
        return logits if logits.dtype == torch.float64 else logits.float()

    def _checkpoint_term(self, weights: State, u: Tensor, teacher_SK: Tensor, weight_S: Tensor) -> Tensor:
        student_SK = self._forward(weights, u)
        return (losses.adversarial(teacher_SK, student_SK, self._objective) * weight_S).sum()

    def _teacher_term(self, weights: State, u: Tensor, pull_SK: Tensor, y: Tensor, weight_S: Tensor) -> Tensor:
        teacher_SK = self._forward(weights, u)
        regulariser = losses.cross_entropy(teacher_SK, y) * weight_S
        return (teacher_SK * pull_SK).sum() + self._alpha * regulariser.sum()

    def labels(self, u_BCHW: Tensor, teacher: State, segment: Segment) -> Tensor:
        """What a student learns, f_T(u) (B, K): logits of the teacher as it is when the images are matched."""
        passes = [
            (part, self._logits(teacher, padded(u_BCHW[part], length))[: len(u_BCHW[part])])
            for part, length in self._parts(len(u_BCHW), segment)
        ]
        logits_BK: Tensor = passes[0][1].new_empty(len(u_BCHW), passes[0][1].shape[1])
        for part, logits in passes:
            logits_BK[part] = logits
        return logits_BK

    def gradient(
        self,
        u_BCHW: Tensor,
        y_B: Tensor,
        teacher: State,
        checkpoints: Sequence[State],
        segment: Segment,
        draws_B4: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """dL_u/du (B, C, H, W) and the matching part of L_u, summed over checkpoints, averaged over B (scalar).

        `draws_B4` augments what the networks see; None shows them the images as they are (Algorithm 1).
        """
        gradient = torch.empty_like(u_BCHW)
        matched = torch.zeros((), device=u_BCHW.device)
        for part, length in self._parts(len(u_BCHW), segment):
            u = u_BCHW[part].detach().requires_grad_()
            seen = u if draws_B4 is None else augment.apply(u, draws_B4[part])
            weight = padded(torch.full((len(u),), 1 / len(u_BCHW), device=u.device, dtype=u.dtype), length, zero=True)
            pull, loss = self._segment(
                padded(seen.detach(), length), padded(y_B[part], length), teacher, checkpoints, weight
            )
            # What the networks ask of the images as they saw them goes back through the augmentation.
            (gradient[part],) = torch.autograd.grad(seen, u, pull[: len(u)]) if seen is not u else (pull[: len(u)],)
            matched += loss
        return gradient, matched

    def _parts(self, count: int, segment: Segment) -> Iterator[tuple[slice, int]]:
        """The images of each pass, and the length to pad them to.

        Those that share statistics are spread over the set, which is in the order of its classes, and never alone.
        """
        if not self._shares:
            yield from segments(count, segment.length(count), pad=bool(self._context.runtime.compile))
            return
        passes = max(1, min(-(-count // (self._batch or count)), count // 2))
        for first in range(passes):
            yield slice(first, None, passes), 0

    def _segment(
        self, u: Tensor, y: Tensor, teacher: State, checkpoints: Sequence[State], weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        u = u.requires_grad_()
        with torch.no_grad():
            teacher_SK = self._logits(teacher, u)
        teacher_SK.requires_grad_()
        gradient, pull = torch.zeros_like(u), torch.zeros_like(teacher_SK)
        matched = torch.zeros((), device=u.device)
        for weights in checkpoints:
            loss = self._checkpoint_loss(weights, u, teacher_SK, weight)
            du, dt = torch.autograd.grad(loss, (u, teacher_SK))
            gradient += du
            pull += dt
            matched += loss.detach()
        gradient += torch.autograd.grad(self._teacher_loss(teacher, u, pull, y, weight), u)[0]
        return gradient, matched


def _normalise_by_batch(network: nn.Module) -> bool:
    """Let batch normalisation go by the statistics of a batch and keep none; whether a network has any."""
    layers = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))]
    for layer in layers:
        layer.train()
        layer.track_running_stats = False
    return bool(layers)
