"""What `doctor` checks beside the engine's own diagnosis: versions, the store, the Hub login."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import platform
import shutil
import tempfile
from pathlib import Path

from apmctl.text import size
from apmctl_core import __version__
from apmctl_core.machine.diagnosis import Check, diagnose
from apmctl_core.storage.files import tree_bytes

_LIBRARIES = ("torch", "torchvision", "numpy", "safetensors", "datasets", "huggingface_hub", "scikit-learn")
_LITTLE_SPACE = 1e9  # bytes


def everything(store: Path) -> list[Check]:
    """All checks: this machine's libraries, its device and compiler, the store, the Hub."""
    where = f"Python {platform.python_version()}, {platform.platform(terse=True)}"
    versions = Check("apmctl", "ok", f"{__version__} on {where}")
    return [versions, *map(library, _LIBRARIES), *diagnose(), *mismatch(), writable(store), login()]


def library(name: str) -> Check:
    """Whether a library is installed, and its version; it is not imported."""
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "error", "not installed", f"pip install {name}")


def mismatch() -> list[Check]:
    """A warning where torchvision is installed but was built for another torch: native CIFAR files need it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("torchvision")
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError) as e:
            detail = f"torchvision {version} was built for another torch: {e}"
            hint = "install torch and torchvision together, of one build"
            return [Check("torchvision build", "warning", detail, hint)]
    return []


def writable(store: Path) -> Check:
    """Whether artifacts can be written; a store that does not exist is judged by the nearest folder above it."""
    folder = store
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as e:
        return Check("store", "error", f"{store}: {e.strerror}", "choose a writable folder with --store")
    detail = f"{store}{'' if folder == store else ' (not created yet)'}, {size(free)} free"
    if cached := tree_bytes(store / "cache"):
        detail += f", {size(cached)} in its cache (`apmctl gc --cache` empties it)"
    if free < _LITTLE_SPACE:
        return Check("store", "warning", detail, "free some space: pools of many teachers take gigabytes")
    return Check("store", "ok", detail)


def login() -> Check:
    """Whether there is a token for the Hub; it is neither shown nor sent anywhere."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return Check("hub login", "warning", "huggingface_hub is not installed", "pip install huggingface_hub")
    if get_token():
        return Check("hub login", "ok", "logged in")
    return Check("hub login", "ok", "no token; public data sets need none (`hf auth login` creates one)")
