"""Networks by name: a name, a width, an image shape and a number of classes make the same network anywhere.

To add one, decorate its constructor with `@architecture("name")` in a file of its own and import that here.
"""

from __future__ import annotations

from apmctl_core.models import convnet
from apmctl_core.models.registry import Architecture, architecture, build, check, depends_on_batch, get, names
from apmctl_core.models.size import NetworkSize, size_of, state_shapes

__all__ = [
    "Architecture",
    "NetworkSize",
    "architecture",
    "build",
    "check",
    "convnet",
    "depends_on_batch",
    "get",
    "names",
    "size_of",
    "state_shapes",
]
