"""Artifacts on the Hugging Face Hub. Importing this imports neither torch nor the Hub's client."""

from __future__ import annotations

from apmctl_core.hub.find import find, on_hub

__all__ = ["find", "on_hub"]
