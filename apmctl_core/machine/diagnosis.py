"""What this machine computes with: device, memory, precision, and whether the compiler works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from apmctl_core.machine import device as devices
from apmctl_core.machine import memory
from apmctl_core.machine.compiled import Compiled


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

    device = devices.find("auto")
    total = psutil.virtual_memory().total
    bf16 = devices.has_bf16(device)
    return [
        Check("device", "ok", f"{device.type}: {devices.device_name(device)}, {torch.get_num_threads()} threads"),
        Check("memory", "ok", f"{memory.free(torch.device('cpu')) / 1e9:.1f} of {total / 1e9:.1f} GB free"),
        Check("precision", "ok", "bf16 and fp32" if bf16 else "fp32 (no native bf16 here)"),
        _check_compiler(device),
    ]


def _check_compiler(device: torch.device) -> Check:
    x = torch.ones(8, device=device)
    notes: list[str] = []
    Compiled(lambda v: (v * 2 + 1).relu(), enabled=True, emit=lambda event: notes.append(getattr(event, "text", "")))(x)
    if not notes:
        return Check("torch.compile", "ok", "works")
    hint = "install a C++ compiler (g++) for two to four times the speed, or turn `compile` off"
    return Check("torch.compile", "warning", notes[0], hint)
