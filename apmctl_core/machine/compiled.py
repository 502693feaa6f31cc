"""Functions under `torch.compile`, with a fallback that is announced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from apmctl_core.events import Emit, Note

# This logger reports on every start that a CPU-only machine has no CUDA runtime.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


class Compiled:
    """A function under `torch.compile` that falls back to eager, and says so, where the compiler cannot be used."""

    def __init__(self, function: Callable[..., Any], *, enabled: bool, emit: Emit) -> None:
        self._function = function
        self._emit = emit
        # Each function sees one shape (batches are padded), so nothing is gained from dynamic shapes.
        self._compiled = torch.compile(function, dynamic=False) if enabled else None

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            return self._function(*args)
        try:
            return self._compiled(*args)
        except Exception as e:
            if not type(e).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            self._compiled = None
            reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
            self._emit(Note(text=f"torch.compile failed, continuing without it: {reason}", level="warning"))
            return self._function(*args)
