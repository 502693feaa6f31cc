"""Networks by name: a name, a width, an image shape and a number of classes make the same network anywhere.

To add one, decorate its constructor with `@architecture("name")` in a file of its own and import that here.
"""

from apmctl_core.models import convnet as convnet
from apmctl_core.models.registry import architecture, build, check, depends_on_batch
from apmctl_core.models.size import NetworkSize, size_of, state_shapes

__all__ = ["NetworkSize", "architecture", "build", "check", "depends_on_batch", "size_of", "state_shapes"]
