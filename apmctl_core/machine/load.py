"""How much other processes slow this one down while something is measured."""

from __future__ import annotations

import time

import psutil
import torch

_NOISE = 1.25  # of slowing down that nobody minds
_FULL = 0.9  # of all cores


class Neighbours:
    """Counts, from when it is made, the processor time of this process and of all others on this machine."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._began = self._now()

    def cores(self) -> float:
        """The cores that others have kept busy since, on average."""
        passed, busy, own = self._since()
        return max(0.0, (busy - own) / passed)

    def slowdown(self, device: torch.device) -> float:
        """How many times longer work takes on a device than on a quiet machine; 1 where it hardly does.

        By the threads that want a core, or by the time that this process, which has computed since, had to wait.
        """
        if device.type != "cpu":
            return 1.0
        count = psutil.cpu_count() or 1
        passed, busy, own = self._since()
        # Where no core is left, as many more as the load average counts wait for one.
        others = max(self.cores(), psutil.getloadavg()[0]) if busy > _FULL * count * passed else self.cores()
        slow = max((torch.get_num_threads() + others) / count, passed / max(own, 1e-6))
        return slow if slow > _NOISE else 1.0

    def _since(self) -> tuple[float, float, float]:
        passed, busy, own = (now - before for now, before in zip(self._now(), self._began, strict=True))
        return max(passed, 1e-6), busy, own

    def _now(self) -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), self._process.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # On Linux, guests' time is part of `user` and `nice` too.
        counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return time.perf_counter(), counted - idle, own.user + own.system
