"""Environments of their own, for the tools that check this one from outside: made once, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

_KEPT = Path(os.environ.get("APMCTL_TEST_ENVIRONMENTS", Path.home() / ".cache" / "apmctl-tests"))
_INSTALL_S = 100


def interpreter(name: str, *requirements: str, beside: ModuleType | None = None) -> Path:
    """The interpreter of an environment that has these requirements; skips where it cannot be made.

    With `beside` only they are installed, and what they need is imported from the folder that this module lies in:
    torch alone is gigabytes.
    """
    folder = _KEPT / name
    python, marker = folder / "bin" / "python", folder / "requirements"
    place = str(Path(beside.__path__[0]).parent) if beside else ""
    wanted = "\n".join([sys.version, *requirements, place])
    if python.exists() and marker.exists() and marker.read_text() == wanted:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True, timeout=60)
        command = [python, "-m", "pip", "install", "--quiet", *(["--no-deps"] if beside else []), *requirements]
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
        if place:  # only now: an installer that sees these packages could replace them
            packages = next((folder / "lib").glob("python*/site-packages"))
            (packages / "beside.pth").write_text(f"{place}\n")
    except (subprocess.SubprocessError, OSError) as e:
        pytest.skip(f"{', '.join(requirements)} cannot be installed here: {e}")
    marker.write_text(wanted)
    return python
