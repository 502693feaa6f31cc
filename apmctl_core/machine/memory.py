"""The memory of this process and of the device: what is held, what is free, what is given back.

On CUDA the figures are the allocator's, elsewhere those of the whole process.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
# What a container may use and uses, in the two versions of Linux' control groups.
_GROUPS = (
    (_CGROUP, "memory.max", "memory.current"),
    (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
# How the allocators of the CPU and of oneDNN say that there is no more; CUDA's has a type of its own.
_RAN_OUT = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "could not create a memory")


def held(device: torch.device) -> int:
    """Bytes that are in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)


_before = 0  # the peak before the latest one began


def peak(device: torch.device) -> int:
    """Bytes at the peak of the process's life."""
    return max(_before, latest_peak(device))


def latest_peak(device: torch.device) -> int:
    """Bytes at the peak since `begin_peak`; of the process's life where the system cannot begin another."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def begin_peak(device: torch.device) -> None:
    """Let `latest_peak` tell of what comes from now on."""
    global _before
    _before = peak(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def free(device: torch.device) -> int:
    """Bytes that may be taken beside those in use: what the device, the machine and the container have left."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    import psutil

    return min(int(psutil.virtual_memory().available), _free_in_group())


def _free_in_group() -> int:
    least = sys.maxsize
    for folder, limit, usage in _GROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such version, or "max"
            lines = (folder / "memory.stat").read_text().splitlines()
            cached = sum(int(n) for key, n in map(str.split, lines) if key == "inactive_file")
            least = min(least, int((folder / limit).read_text()) - int((folder / usage).read_text()) + cached)
    return max(0, least)


def keep_freed() -> None:
    """Let the C library reuse large blocks instead of handing each back to the system.

    Every step of a training frees and asks for the same blocks; the page faults of fresh ones took a third of the
    time of a step. Nothing happens where the C library is not glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


def give_back(device: torch.device) -> None:
    """Hand freed blocks back to the system, or to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, of the device or of the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _RAN_OUT)
