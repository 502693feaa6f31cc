"""Networks by name: a name, a width, an image shape and a number of classes make the same network anywhere.

To add one, decorate its constructor with `@architecture("name")` in a file here, which is found by itself.
"""

from apmctl_core.models.registry import ARCHITECTURES, architecture, build, habits_of
from apmctl_core.models.size import NetworkSize, size_of, state_shapes
from apmctl_core.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "ARCHITECTURES",
    "NetworkSize",
    "architecture",
    "build",
    "habits_of",
    "size_of",
    "state_shapes",
]
