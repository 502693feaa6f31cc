"""K-center, greedily (Sener & Savarese 2018): images to which all others of their class are near."""

import torch
from torch import Tensor

from apmctl_core.evaluation.coreset import ClassView, coreset


@coreset("k-center")
def k_center(view: ClassView, count: int) -> Tensor:
    """First the image nearest to the mean, then always the one farthest from all that are chosen."""
    features = view.features.double()
    chosen = [int((features - features.mean(0)).square().sum(1).argmin())]
    nearest = torch.full((len(features),), torch.inf, dtype=torch.float64)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).square().sum(1))
        nearest[chosen[-1]] = -1.0  # images may have equal features
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
