"""Ways to choose real images. To add one, decorate a function of a class's images in a file here, found by itself."""

from apmctl_core.evaluation.coreset import CORESETS, choose, coreset
from apmctl_core.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["CORESETS", "choose", "coreset"]
