"""torchvision, which only some networks need, and which loads beside the torch that it was built for alone."""

from __future__ import annotations

from typing import Any

from apmctl_core.errors import ConfigError


def models() -> Any:
    """The module `torchvision.models`. Raises ConfigError where torchvision cannot be imported."""
    try:
        import torchvision.models
    except (ImportError, RuntimeError) as e:  # RuntimeError: built for another torch
        problem = f"this network is one of torchvision's, which cannot be imported: {e}"
        raise ConfigError(problem, "install torch and torchvision together, of one build") from e
    return torchvision.models
