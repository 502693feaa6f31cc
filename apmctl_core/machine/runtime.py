"""Where and how the arithmetic runs: device, precision, compilation, segments.

None of this decides a result beyond rounding, save the precision, which is therefore part of a recipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from apmctl_core.errors import ConfigError, DeviceError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine import memory
from apmctl_core.machine.segment import Load, Segment

# Below this many floating-point operations a run ends before the compiler would have paid for itself.
_COMPILE_PAYS = {"cpu": 4e12, "cuda": 2e15}
# Steps of fewer operations than this gain nothing from a second thread, and lose tenfold where another process has
# the other core: threads wait for each other at every one of their small operations.
_THREADS_PAY = 1e9
_THREADS = torch.get_num_threads()
# What the compiler adds to a process, and what torch loads at its first training step, on the CPU.
_COMPILER_BYTES, _FIRST_STEP_BYTES = 250e6, 150e6
# Networks smaller than this many multiply-adds an image lose more to casts than bf16 gains (measured on 8x8 images).
_BF16_PAYS = 2e6
# What torch and the system call processors' instructions for bf16.
_BF16_NAMES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device and how to use it. `compile` None leaves the choice to the amount of work."""

    device: torch.device
    compile: bool | None = None
    segment: Segment = field(default_factory=Segment)
    emit: Emit = silent

    def compiles(self, flops: float) -> bool:
        """Whether a run of so many floating-point operations goes through the compiler."""
        if self.compile is not None:
            return self.compile
        return flops > _COMPILE_PAYS.get(self.device.type, float("inf"))

    def for_load(self, load: Load) -> Runtime:
        """This runtime with compilation, threads and segment chosen for a stage."""
        if self.device.type == "cpu":
            torch.set_num_threads(1 if load.step_flops < _THREADS_PAY else _THREADS)
        segment = replace(self.segment, emit=self.emit).for_load(self.whole(load), self.device)
        return replace(self, compile=self.compiles(load.flops), segment=segment)

    def whole(self, load: Load) -> Load:
        """A load with what torch itself adds to it: its first training step here, and the compiler."""
        if self.device.type != "cpu":
            return load
        own = 0.0 if "torch._dynamo" in sys.modules else _FIRST_STEP_BYTES
        own += _COMPILER_BYTES if self.compiles(load.flops) else 0.0
        return replace(load, fixed_bytes=load.fixed_bytes + own)


def resolve(
    device: str = "auto",
    compile: bool | None = None,
    segment: int | None = 0,
    emit: Emit = silent,
    memory_budget: int | None = None,
) -> Runtime:
    """A runtime for the device asked for; `segment` None cuts as memory demands, 0 not at all. Raises DeviceError."""
    if segment is not None and segment < 0:
        raise ConfigError(f"--segment must be at least 0, got {segment}", "0 keeps a batch whole")
    # This logger reports on every start that a CPU-only machine has no CUDA runtime.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    found = _device(device)
    if found.type == "cpu":
        memory.keep_freed()
    cut = Segment(segment or 0, budget=memory_budget, automatic=segment is None)
    return Runtime(device=found, compile=compile, segment=cut, emit=emit)


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
    return any(bool(capabilities.get(name)) for name in _BF16_NAMES) or _flags_have_bf16()


def _flags_have_bf16() -> bool:
    try:
        with open("/proc/cpuinfo") as f:  # noqa: PTH123
            flags = next((line for line in f if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return any(name in flags.split() for name in _BF16_NAMES)


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


def environment(runtime: Runtime) -> dict[str, Any]:
    """What a manifest records of the machine: versions, device, threads, how the arithmetic ran."""
    import platform

    import numpy

    from apmctl_core.version import __version__

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
        "segment": runtime.segment.limit,
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
    import psutil

    device = resolve().device
    total = psutil.virtual_memory().total
    bf16 = has_bf16(device)
    return [
        Check("device", "ok", f"{device.type}: {device_name(device)}, {torch.get_num_threads()} threads"),
        Check("memory", "ok", f"{memory.free(torch.device('cpu')) / 1e9:.1f} of {total / 1e9:.1f} GB free"),
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
