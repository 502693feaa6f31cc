"""How the arithmetic of a run is done: device, compilation, threads, segments.

None of this decides a result beyond rounding. Precision does, and is part of a recipe.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
import torch

from apmctl_core.errors import ConfigError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine import device as devices
from apmctl_core.machine import memory
from apmctl_core.machine.cores import cores
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.segment import Segment
from apmctl_core.version import __version__

# Below this many floating-point operations a run ends before the compiler would have paid for itself.
_COMPILE_PAYS = {"cpu": 4e12, "cuda": 2e15}
# Steps of fewer operations than this gain nothing from a second thread, and lose tenfold where another process has
# the other core: threads wait for each other at every one of their small operations.
_THREADS_PAY = 1e9
# Where a step has less for each core than that, it is faster to train a network a core at once, each with one thread,
# if one after the other would take longer than this: processes take seconds to start.
_WORKERS_SECONDS = 10.0
_STEP_SECONDS, _FLOPS = 4e-3, 5e10  # of one thread: the least that a step takes, operations in a second
_WORKER_BYTES = 800e6  # of a process: Python, torch, what the compiler holds
_THREADS = torch.get_num_threads()
# What the compiler adds to a process, and what torch loads at its first training step, on the CPU.
_COMPILER_BYTES, _FIRST_STEP_BYTES = 250e6, 150e6
_SHARE = 0.9  # of what is free may be taken where no budget is given
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The device and how to use it.

    `compile` None leaves the choice to the amount of work · `limit` the most images in one pass (0: no limit, None:
    as memory demands) · `memory_budget` in bytes · `segment` what these come to for the work at hand · `workers` the
    networks that train at once, each in a process of its own (None: as many as there is room for, if that is faster).
    """

    device: torch.device
    compile: bool | None = None
    limit: int | None = 0
    memory_budget: int | None = None
    segment: Segment = field(default_factory=Segment)
    workers: int | None = 1

    @property
    def adapts(self) -> bool:
        """Whether memory decides how long segments are."""
        return self.limit is None or self.memory_budget is not None

    def compiles(self, cost: Cost) -> bool:
        """Whether work of this cost goes through the compiler."""
        if self.compile is not None:
            return self.compile
        return cost.flops > _COMPILE_PAYS.get(self.device.type, float("inf"))

    def for_cost(self, cost: Cost, emit: Emit = silent) -> Runtime:
        """This runtime with compilation, threads and segment chosen for work of a cost."""
        workers = self._workers(cost)
        if self.device.type == "cpu":
            torch.set_num_threads(1 if workers > 1 or cost.step_flops < _THREADS_PAY else _THREADS)
        self.require(cost)
        return replace(self, compile=self.compiles(cost), segment=self._segment(cost, emit), workers=workers)

    def require(self, cost: Cost) -> None:
        """Raise ConfigError for a segment that the work does not allow, or a budget that its shortest one exceeds."""
        if self.limit and self.limit < cost.whole:
            raise ConfigError(
                f"`segment` {self.limit} would divide a batch of {cost.whole}, whose statistics this network uses",
                "leave it out, or use smaller batches",
            )
        if self.memory_budget is None:
            return
        least = memory.held(self.device) + self.with_torch(cost).least_bytes
        if least > self.memory_budget:
            raise ConfigError(
                f"`memory_budget` of {self.memory_budget / _GB:.2f} GB is too small: about {least / _GB:.2f} GB are "
                f"needed with {cost.whole} image{'s' if cost.whole > 1 else ''} at a time",
                "give more, or use a smaller network or fewer images",
            )

    def with_torch(self, cost: Cost) -> Cost:
        """A cost with what torch itself adds to it: its first training step here, and the compiler."""
        if self.device.type != "cpu":
            return cost
        own = 0.0 if "torch._dynamo" in sys.modules else _FIRST_STEP_BYTES
        own += _COMPILER_BYTES if self.compiles(cost) else 0.0
        return replace(cost, fixed_bytes=cost.fixed_bytes + own)

    def peak_bytes(self, cost: Cost) -> int:
        """Bytes at the peak of work for which this runtime was chosen: the process, the work, the largest pass."""
        fixed = memory.held(self.device) + self.with_torch(cost).fixed_bytes
        return int(fixed + self.segment.length(cost.images) * cost.image_bytes)

    def _workers(self, cost: Cost) -> int:
        """How many networks train at once; one where memory has to be watched."""
        if self.device.type != "cpu" or self.memory_budget is not None or cost.networks == 1:
            return 1
        most = min(self.workers or cores(), cost.networks)
        if self.workers is not None:
            return most
        seconds = cost.steps * _STEP_SECONDS + cost.flops / _FLOPS
        if cost.step_flops > _THREADS_PAY * cores() or seconds < _WORKERS_SECONDS:
            return 1
        each = _WORKER_BYTES + cost.fixed_bytes + cost.images * cost.image_bytes
        return max(1, min(most, int(_SHARE * memory.free(self.device) / each)))

    def alone(self) -> Runtime:
        """The runtime of one of several workers: what memory there is was shared out before."""
        return replace(self, limit=self.limit or 0, segment=Segment(limit=self.limit or 0), workers=1)

    def resumed(self, limit: int) -> Segment:
        """The segment to resume a state with. Where memory had decided it, it stays: another one rounds otherwise."""
        return replace(self.segment, limit=limit, ceiling=None) if self.adapts else self.segment

    def _segment(self, cost: Cost, emit: Emit) -> Segment:
        """The longest segment that is predicted to fit. The first piece of work verifies it."""
        asked = Segment(limit=self.limit or 0, images=cost.images, whole=cost.whole, image_bytes=cost.image_bytes)
        if not self.adapts:
            return asked
        memory.give_back(self.device)  # what earlier work has freed counts as held until then
        held = memory.held(self.device)
        ceiling = self.memory_budget or int(held + _SHARE * memory.free(self.device))
        most = int((ceiling - held - self.with_torch(cost).fixed_bytes) // cost.image_bytes)
        watched = replace(asked, ceiling=ceiling)
        if most >= (self.limit or cost.images):
            return watched
        shorter = replace(watched, limit=max(cost.whole, most))
        emit(Note(text=f"using segments of {shorter.longest} images to stay within memory"))
        return shorter

    def environment(self) -> dict[str, Any]:
        """What a manifest records of the machine: versions, device, threads, how the arithmetic ran."""
        return {
            "apmctl": __version__,
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "device": self.device.type,
            "device_name": devices.device_name(self.device),
            "threads": torch.get_num_threads(),
            "compile": bool(self.compile),
        }


def resolve(
    device: str = "auto",
    compile: bool | None = None,
    segment: int | None = 0,
    memory_budget: int | None = None,
    workers: int | None = 1,
) -> Runtime:
    """A runtime for the device asked for; `segment` None cuts as memory demands, 0 not at all.

    `workers` None trains as many networks at once as is fastest; that starts processes, which import the main module
    anew. Raises DeviceError, ConfigError.
    """
    if segment is not None and segment < 0:
        raise ConfigError(f"`segment` must be at least 0, got {segment}", "0 keeps a batch whole")
    if workers is not None and workers < 1:
        raise ConfigError(f"`workers` must be at least 1, got {workers}", "1 trains one network after the other")
    torch_device = devices.find(device)
    if torch_device.type == "cpu":
        memory.keep_freed()
    cut = Segment(limit=segment or 0)
    return Runtime(
        device=torch_device,
        compile=compile,
        limit=segment,
        memory_budget=memory_budget,
        segment=cut,
        workers=workers,
    )
