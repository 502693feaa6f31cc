"""olah, a mirror of the Hub that knows nothing of our server: it reads the git repositories that this one has made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import free_port

_CACHE = Path(os.environ.get("APMCTL_TEST_OLAH", Path.home() / ".cache" / "apmctl-tests" / "olah"))
_VERSION = "0.5.4"
_INSTALL_S = 100


def python() -> Path:
    """The interpreter of an environment that has olah; made once, and kept. Skips where it cannot be made."""
    found = _CACHE / "bin" / "python"
    marker = _CACHE / f".olah-{_VERSION}"
    if marker.exists() and found.exists():
        return found
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", _CACHE], check=True, capture_output=True, timeout=60)
        command = [found, "-m", "pip", "install", "--quiet", f"olah=={_VERSION}"]
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
    except (subprocess.SubprocessError, OSError) as e:
        pytest.skip(f"olah cannot be installed here: {e}")
    marker.touch()
    return found


def serve(repositories: Path, folder: Path) -> Iterator[str]:
    """The address of an olah that serves repositories of the disk and nothing else."""
    port, folder = free_port(), folder
    config = folder / "olah.toml"
    config.write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{folder / "cache"}"\n'
        f'mirrors-path = ["{repositories}"]\n[accessibility]\noffline = true\n'
    )
    with (folder / "olah.log").open("wb") as log:
        command = [python(), "-m", "olah.server", "-c", str(config)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "olah.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.skip(f"olah does not start: {log.read_text(errors='replace')[-500:]}")
