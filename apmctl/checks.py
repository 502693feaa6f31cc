"""What `doctor` looks at besides the engine's own diagnosis: versions, the store, the Hub login."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apmctl.text import size
from apmctl_core import __version__

Status = Literal["ok", "warning", "error"]

_LIBRARIES = ("torch", "torchvision", "numpy", "safetensors", "datasets", "huggingface_hub", "scikit-learn")
_LITTLE_SPACE = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `hint` says what to do where it is not ok."""

    name: str
    status: Status
    detail: str
    hint: str = ""


def everything(store: Path) -> list[Finding]:
    """All findings: this machine's libraries, its device and compiler, the store, the Hub."""
    from apmctl_core.machine import runtime

    engine = [Finding(c.name, c.status, c.detail, c.hint) for c in runtime.diagnose()]
    return [versions(), *libraries(), *engine, writable(store), login()]


def versions() -> Finding:
    """apmctl and Python."""
    return Finding(
        "apmctl", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform(terse=True)}"
    )


def libraries() -> list[Finding]:
    """The libraries that the work needs, by their installed versions, without importing them."""
    return [_library(name) for name in _LIBRARIES]


def _library(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "error", "not installed", f"pip install {name}")


def writable(store: Path) -> Finding:
    """Whether artifacts can be written; a store that is not there yet is judged by the folder it would be made in."""
    place = store
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        disk = os.statvfs(place)
    except OSError as e:
        return Finding("store", "error", f"{store}: {e.strerror}", "choose a folder that can be written with --store")
    free = disk.f_bavail * disk.f_frsize
    detail = f"{store}{'' if place == store else ' (not made yet)'}, {size(free)} free"
    if free < _LITTLE_SPACE:
        return Finding("store", "warning", detail, "make space: pools of many teachers take gigabytes")
    return Finding("store", "ok", detail)


def login() -> Finding:
    """Whether there is a token for the Hub; it is neither shown nor sent anywhere."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return Finding("hub login", "warning", "huggingface_hub is not installed", "pip install huggingface_hub")
    if get_token():
        return Finding("hub login", "ok", "a token is there")
    return Finding("hub login", "ok", "no token; public data sets need none (`hf auth login` makes one)")
