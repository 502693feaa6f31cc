"""Evaluation protocols by name. To add one, register it in a file of its own and import that here."""

from __future__ import annotations

from apmctl_core.evaluation.protocols import apm
from apmctl_core.evaluation.protocols.protocol import Protocol, get, names, register

__all__ = ["Protocol", "apm", "get", "names", "register"]
