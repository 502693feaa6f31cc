"""Herding (Welling 2009): images whose features have the mean of their class, as closely as few can."""

import torch
from torch import Tensor

from apmctl_core.evaluation.coreset import ClassView, coreset


@coreset("herding")
def herding(view: ClassView, count: int) -> Tensor:
    """One image after the other: that which brings the mean of the chosen nearest to the mean of all."""
    features = view.features.double()
    mean, total = features.mean(0), torch.zeros(features.shape[1], dtype=torch.float64)
    left = torch.ones(len(features), dtype=torch.bool)
    chosen = []
    for number in range(1, count + 1):
        distance = (mean * number - total - features).square().sum(1)
        best = int(distance.where(left, torch.inf).argmin())
        left[best] = False
        total += features[best]
        chosen.append(best)
    return torch.tensor(chosen)
