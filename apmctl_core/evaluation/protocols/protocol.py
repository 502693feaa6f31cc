"""What an evaluation protocol is: how networks are trained for each kind of labels, and the numbers that it fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apmctl_core.errors import ConfigError
from apmctl_core.training.procedure import Procedure


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A named way to measure a set.

    `procedures` says how to train on each kind of labels (soft, hard) · `settings` are fields of EvalConfig that the
    protocol fixes; the others are those of the set's own recipe. What the user gives overrides both.
    """

    name: str
    procedures: Mapping[str, Procedure]
    settings: Mapping[str, Any] = field(default_factory=dict)


_PROTOCOLS: dict[str, Protocol] = {}


def register(protocol: Protocol) -> Protocol:
    """Make a protocol known under its name."""
    _PROTOCOLS[protocol.name] = protocol
    return protocol


def names() -> tuple[str, ...]:
    """The names of all protocols."""
    return tuple(_PROTOCOLS)


def get(name: str) -> Protocol:
    """The protocol of a name. Raises ConfigError for one that is not registered."""
    if name not in _PROTOCOLS:
        raise ConfigError(f"`evaluate.protocol` cannot be {name!r}", f"known: {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]
