"""The kinds of artifacts, each registered by its own module."""

from __future__ import annotations

from apmctl_core.artifacts.kinds import pools, reports, sets

__all__ = ["pools", "reports", "sets"]
