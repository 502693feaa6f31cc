"""The engine of apmctl: dataset distillation by adversarial prediction matching. Importing this is instant.

`load` gives a distilled set as tensors: `apmctl_core.load("hf:owner/name")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apmctl_core.version import __version__

if TYPE_CHECKING:
    from apmctl_core.api import LoadedSet, load

__all__ = ["LoadedSet", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("LoadedSet", "load"):
        from apmctl_core import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
