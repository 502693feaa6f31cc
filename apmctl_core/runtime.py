"""Where and how the arithmetic runs: device, precision, compilation, segments, and the memory in use.

None of this decides a result beyond rounding, save the precision, which is therefore part of a recipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from apmctl_core.errors import ConfigError, DeviceError
from apmctl_core.events import Emit, Note, silent

# Below this many floating-point operations a run ends before the compiler would have paid for itself.
_COMPILE_PAYS = {"cpu": 4e12, "cuda": 2e15}
# Steps of fewer operations than this gain nothing from a second thread, and lose tenfold where another process has
# the other core: threads wait for each other at every one of their small operations.
_THREADS_PAY = 1e9
_THREADS = torch.get_num_threads()
# Networks smaller than this many multiply-adds an image lose more to casts than bf16 gains (measured on 8x8 images).
_BF16_PAYS = 2e6


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device and how to use it. `compile` None leaves the choice to the amount of work; `segment` 0 means whole."""

    device: torch.device
    compile: bool | None = None
    segment: int = 0
    emit: Emit = silent

    def compiles(self, flops: float) -> bool:
        """Whether a run of so many floating-point operations goes through the compiler."""
        if self.compile is not None:
            return self.compile
        return flops > _COMPILE_PAYS.get(self.device.type, float("inf"))

    def for_work(self, flops: float, step: float) -> Runtime:
        """This runtime with compilation and threads chosen for a run of so many operations, so many of them a step."""
        if self.device.type == "cpu":
            torch.set_num_threads(1 if step < _THREADS_PAY else _THREADS)
        return replace(self, compile=self.compiles(flops))


def resolve(device: str = "auto", compile: bool | None = None, segment: int = 0, emit: Emit = silent) -> Runtime:
    """A runtime for the device asked for. Raises DeviceError where that device is not there."""
    if segment < 0:
        raise ConfigError(f"--segment must be at least 0, got {segment}", "0 keeps a batch whole")
    # This logger reports on every start that a CPU-only machine has no CUDA runtime.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    found = _device(device)
    if found.type == "cpu":
        _keep_freed_memory()
    return Runtime(device=found, compile=compile, segment=segment, emit=emit)


def _keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of handing each back to the system.

    Every step of a training frees and asks for the same blocks; the page faults of fresh ones took a third of the
    time of a step. Nothing happens where the C library is not glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def _available() -> list[str]:
    names = ["cpu"]
    if torch.backends.mps.is_available():
        names.insert(0, "mps")
    if torch.cuda.is_available():
        names.insert(0, "cuda")
    return names


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(_available()[0])
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise DeviceError(f"no such device: {name!r}", f"here: auto, {', '.join(_available())}") from e
    if device.type not in _available() or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {name!r} is not there", f"here: auto, {', '.join(_available())}")
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively; emulation would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _cpu_has_bf16()
    return False


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    named = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
    return any(bool(capabilities.get(name)) for name in named) or _flags_have_bf16()


def _flags_have_bf16() -> bool:
    try:
        with open("/proc/cpuinfo") as f:  # noqa: PTH123
            flags = next((line for line in f if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return any(name in flags.split() for name in ("avx512_bf16", "amx_bf16", "bf16"))


def choose_precision(asked: str, device: torch.device, multiply_adds: float) -> str:
    """fp32 or bf16 for a network of so many multiply-adds an image: what was asked for, or what pays."""
    if asked != "auto":
        return asked
    return "bf16" if multiply_adds >= _BF16_PAYS and has_bf16(device) else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which networks run at a precision."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


class Compiled:
    """A function under `torch.compile` that falls back to eager, and says so, where the compiler cannot be used."""

    def __init__(self, function: Callable[..., Any], runtime: Runtime) -> None:
        self._function = function
        self._runtime = runtime
        self._compiled: Callable[..., Any] | None = None
        if runtime.compile:
            # Each function sees one shape (batches are padded), so nothing is gained from dynamic shapes.
            self._compiled = torch.compile(function, dynamic=False)

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            return self._function(*args)
        try:
            return self._compiled(*args)
        except Exception as e:
            if not _is_compiler_error(e):
                raise
            self._compiled = None
            reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
            self._runtime.emit(Note(text=f"torch.compile failed, going on without it: {reason}", level="warning"))
            return self._function(*args)


def _is_compiler_error(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak so far: the allocator's on CUDA, the whole process's elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def environment(runtime: Runtime) -> dict[str, Any]:
    """What a manifest records of the machine: versions, device, threads, how the arithmetic ran."""
    import platform

    import numpy

    from apmctl_core import __version__

    return {
        "apmctl": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "device": runtime.device.type,
        "device_name": device_name(runtime.device),
        "threads": torch.get_num_threads(),
        "compile": bool(runtime.compile),
        "segment": runtime.segment,
    }


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as f:  # noqa: PTH123
            name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        name = device.type
    return f"{name} ({os.cpu_count()} cores)"


# --- diagnosis ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that decides how well the engine runs here; `hint` says what to do where it is not ok."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str
    hint: str = ""


def diagnose() -> list[Check]:
    """What this machine computes with: device, precision, and whether the compiler works (tried on a small sum)."""
    import psutil  # the engine itself does without

    device = resolve().device
    memory = psutil.virtual_memory()
    bf16 = has_bf16(device)
    return [
        Check("device", "ok", f"{device.type}: {device_name(device)}, {torch.get_num_threads()} threads"),
        Check("memory", "ok", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"),
        Check("precision", "ok", "bf16 and fp32" if bf16 else "fp32 (no native bf16 here)"),
        _check_compiler(device),
    ]


def _check_compiler(device: torch.device) -> Check:
    x = torch.ones(8, device=device)
    notes: list[str] = []
    runtime = Runtime(device=device, compile=True, emit=lambda event: notes.append(getattr(event, "text", "")))
    Compiled(lambda v: (v * 2 + 1).relu(), runtime)(x)
    if not notes:
        return Check("torch.compile", "ok", "works")
    hint = "install a C++ compiler (g++) for two to four times the speed; --no-compile silences this"
    return Check("torch.compile", "warning", notes[0], hint)
