"""Losses of the method, one number an image; whoever calls decides how to average. K classes, B images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 1e-8  # keeps log d finite where student and teacher agree exactly


def discrepancy(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """d: mean absolute difference of logits over the classes (METHOD: L1); (B, K), (B, K) -> (B,)."""
    return (teacher_BK - student_BK).abs().mean(dim=1)


def adversarial(teacher_BK: Tensor, student_BK: Tensor, objective: str) -> Tensor:
    """What one checkpoint adds to the images' loss: -d ("linear"), or -log d ("log", APM eq. 4); (B,).

    The published results were obtained without the log.
    """
    d = discrepancy(teacher_BK, student_BK)
    return -(d + _SMALLEST).log() if objective == "log" else -d


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy with class labels; of the teacher, H(y, p(y | u; teacher)) of eq. 4; (B,)."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def soft_cross_entropy(logits_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """Cross-entropy with the distribution of a teacher's logits (DATM: soft labels); (B, K), (B, K) -> (B,)."""
    return F.cross_entropy(logits_BK, teacher_BK.softmax(1), reduction="none")


def kl_divergence(logits_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """KL of a teacher's distribution and the network's, both at a temperature (SRe2L); (B, K), (B, K) -> (B,).

    Not scaled by the temperature's square, as the published runs were not.
    """
    own, wanted = (logits / temperature for logits in (logits_BK, teacher_BK))
    return F.kl_div(own.log_softmax(1), wanted.softmax(1), reduction="none").sum(1)
