"""What every stage is given beside its own inputs: one value instead of five parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from apmctl_core.events import Emit, silent
from apmctl_core.machine import segment as segments
from apmctl_core.machine.compiled import Compiled
from apmctl_core.machine.runtime import Runtime
from apmctl_core.machine.segment import Segment
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Keeper, NullKeeper

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a stage's randomness comes from, how its arithmetic runs, where its states lie, and who listens."""

    stream: Stream
    runtime: Runtime
    precision: str = "fp32"
    keeper: Keeper = field(default_factory=NullKeeper)
    emit: Emit = silent

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def segment(self) -> Segment:
        """The segment to begin with."""
        return self.runtime.segment

    def eager(self) -> Context:
        """The same without the compiler: for passes too few to pay for it."""
        return replace(self, runtime=replace(self.runtime, compile=False))

    def compiled(self, function: Callable[..., Any]) -> Compiled:
        """A function under the compiler, if the runtime says so."""
        return Compiled(function, enabled=bool(self.runtime.compile), emit=self.emit)

    def attempt(self, work: Callable[[Segment], T], segment: Segment) -> tuple[T, Segment]:
        """Do work that can be done again, in shorter segments where memory runs out (see `segment.attempt`)."""
        return segments.attempt(work, segment, self.device, self.emit)

    def checkpoint(self, segment: Segment) -> None:
        """Within long work: start it again with a shorter segment if it takes too much memory."""
        segments.checkpoint(segment, self.device, self.emit)
