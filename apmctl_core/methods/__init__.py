"""Methods of distillation by name. To add one, decorate its class with `@method("name")` in a file here."""

from apmctl_core.methods.base import METHODS, ImageState, Method, Update, method
from apmctl_core.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["METHODS", "ImageState", "Method", "Update", "method"]
