"""The formats in which local data sets lie on disk, a file each; importing this package registers all of them."""

from apmctl_core.registry import import_modules

import_modules(__name__, __path__)
