"""EL2N (Paul et al. 2021): the most difficult images, by the error of the teachers' probabilities.

Published runs take networks early in their training; here they are the pool's, trained to the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from apmctl_core.evaluation.coreset import ClassView, coreset


@coreset("el2n")
def el2n(view: ClassView, count: int) -> Tensor:
    """The images with the largest mean distance of probabilities from the label."""
    classes = view.probabilities.shape[2]
    wanted = F.one_hot(torch.tensor(view.label), classes).to(view.probabilities)
    error: Tensor = torch.linalg.vector_norm(view.probabilities - wanted, dim=2).mean(0)
    return error.argsort(descending=True, stable=True)[:count]
