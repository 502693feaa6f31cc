"""The kinds of artifacts: each module of this package registers its own."""

from __future__ import annotations

from apmctl_core.registry import import_modules

import_modules(__name__, __path__)
