"""Evaluation protocols by name. To add one, register it in a file here, which is found by itself."""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol, overridden
from apmctl_core.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["PROTOCOLS", "Protocol", "overridden"]
