"""The device: which one, what it is called, and what precision it computes in."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from apmctl_core.errors import DeviceError

# Networks smaller than this many multiply-adds an image lose more to casts than bf16 gains (measured on 8x8 images).
_BF16_PAYS = 2e6
# What torch and the system call processors' instructions for bf16.
_BF16_NAMES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def _available() -> list[str]:
    names = ["cpu"]
    if torch.backends.mps.is_available():
        names.insert(0, "mps")
    if torch.cuda.is_available():
        names.insert(0, "cuda")
    return names


def find(name: str) -> torch.device:
    """The device of a name; auto is the fastest one. Raises DeviceError."""
    if name == "auto":
        return torch.device(_available()[0])
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise DeviceError(f"no such device: {name!r}", f"here: auto, {', '.join(_available())}") from e
    if device.type not in _available() or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {name!r} is not available", f"here: auto, {', '.join(_available())}")
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
    flags = set(_cpu_line("flags", "Features").split())
    return any(capabilities.get(name) or name in flags for name in _BF16_NAMES)


def _cpu_line(*names: str) -> str:
    """What Linux says of the processor under one of these names, or nothing."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(names)), "")
    return ""


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


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_line('model name') or device.type} ({os.cpu_count()} cores)"
