"""Methods of distillation by name. To add one, decorate its class with `@method("name")` and import its file here."""

from __future__ import annotations

from apmctl_core.methods import apm
from apmctl_core.methods.base import ImageState, Method, Update, get, method

__all__ = ["ImageState", "Method", "Update", "apm", "get", "method"]
