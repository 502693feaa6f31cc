"""Artifacts on the Hugging Face Hub. Importing this imports neither torch nor the Hub's client."""

from __future__ import annotations

from apmctl_core.hub.references import Reference, find, on_hub, parse

__all__ = ["Reference", "find", "on_hub", "parse"]
