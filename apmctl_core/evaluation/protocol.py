"""What an evaluation protocol is: how networks are trained for each kind of labels, and the numbers that it fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apmctl_core.config import EvalConfig
from apmctl_core.registry import Registry
from apmctl_core.training.procedure import Procedure


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to measure a set: `procedures` by kind of labels (soft, hard), `settings` of EvalConfig that it fixes.

    Other settings are those of the set's own recipe. What the user gives overrides both.
    """

    procedures: Mapping[str, Procedure]
    settings: Mapping[str, Any] = field(default_factory=dict)


PROTOCOLS: Registry[Protocol] = Registry("evaluate.protocol")


def overridden(config: EvalConfig) -> list[str]:
    """The settings in which a configuration departs from its protocol, with their values."""
    fixed = PROTOCOLS[config.protocol].settings
    return [f"{name} {getattr(config, name)}" for name, value in fixed.items() if getattr(config, name) != value]
