"""olah, a mirror of the Hub that knows nothing of our server: it reads the git repositories that this one has made."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments import interpreter

from .conftest import free_port

_VERSION = "0.5.4"


def serve(repositories: Path, folder: Path) -> Iterator[str]:
    """The address of an olah that serves repositories of the disk and nothing else."""
    port, folder = free_port(), folder
    config = folder / "olah.toml"
    config.write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{folder / "cache"}"\n'
        f'mirrors-path = ["{repositories}"]\n[accessibility]\noffline = true\n'
    )
    with (folder / "olah.log").open("wb") as log:
        command = [interpreter("olah", f"olah=={_VERSION}"), "-m", "olah.server", "-c", str(config)]
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
