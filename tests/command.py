"""The command as a user runs it, in a process of its own, with or without the seconds that a start takes.

A `Shell` gives command lines to one store. Each becomes a child of a server that has everything imported: it is forked
and runs `apmctl.cli.main`, the installed command from its first line on, in a session of its own and with its own
signal handlers. The server computes nothing, so there are no threads to lose in a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import itertools
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "apmctl"
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
_LIMIT = 600.0
_PATIENCE = 60.0  # seconds until a command says what it must
# Bytes are the same for the same number of threads.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Answer:
    """What a command line gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


class Child:
    """A command at work. `poll` gives its exit code (negative: the signal that killed it), None while it works."""

    def __init__(self, pid: int, poll: Callable[[], int | None], files: tuple[Path, Path]) -> None:
        self.pid, self._poll, self._files = pid, poll, files
        self._read = 0

    @property
    def answer(self) -> Answer:
        """What it has written so far; the code is -1 while it works."""
        code = self._poll()
        return Answer(-1 if code is None else code, *(p.read_text(errors="replace") for p in self._files))

    def wait(self, seconds: float = _LIMIT) -> int | None:
        """Its exit code, or None if it is still at work after so long."""
        end = time.monotonic() + seconds
        while (code := self._poll()) is None and time.monotonic() < end:
            time.sleep(0.002)
        return code

    def end(self) -> Answer:
        """What it gave when it has ended."""
        assert self.wait() is not None, "a command does not end"
        return self.answer

    def wait_for(self, text: str) -> None:
        """Wait for a line on stderr that begins with `text`, after those that were waited for before."""
        end = time.monotonic() + _PATIENCE
        while True:
            ended = self._poll() is not None
            lines = self._files[1].read_text(errors="replace").splitlines()
            for number in range(self._read, len(lines)):
                if lines[number].startswith(text):
                    self._read = number + 1
                    return
            assert not ended and time.monotonic() < end, f"no line begins with {text!r}: {lines}"
            time.sleep(0.005)

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self, number: int) -> tuple[Answer, float]:
        """Send a signal and wait: what it gave, and the seconds until it had left."""
        began = time.monotonic()
        self.send(number)
        return self.end(), time.monotonic() - began


@dataclass(frozen=True)
class Shell:
    """The command on one store. `installed` starts the installed one, not a fork.

    `environment`, where it is given, is all of it; `folder` is the working directory.
    """

    store: Path
    installed: bool = False
    environment: dict[str, str] | None = None
    folder: Path = ROOT

    def start(self, *arguments: object, **how: Any) -> Child:
        """Start a command line; `how` are options of the server's `_become`: eager, die_at, root."""
        words = [str(argument) for argument in arguments]
        env = (self.environment or os.environ | _ENVIRONMENT) | {"APMCTL_HOME": str(self.store)}
        number, files = next(_numbers), []
        for stream in ("out", "err"):
            files.append(_folder() / f"{number}.{stream}")
            files[-1].touch()
        out, err = files
        if not self.installed:
            names = {"out": str(out), "err": str(err), "env": env, "folder": str(self.folder)}
            pid = _server().ask(action="start", arguments=words, **names, **how)
            return Child(pid, lambda: _server().ask(action="poll", pid=pid), (out, err))
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen([COMMAND, *words], env=env, cwd=self.folder, stdout=stdout, stderr=stderr)
        return Child(process.pid, process.poll, (out, err))

    def __call__(self, *arguments: object) -> Answer:
        """Run a command line."""
        return self.start(*arguments).end()

    def json(self, *arguments: object) -> Any:
        """The document of a command line that succeeds."""
        answer = self(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.document

    def artifacts(self) -> list[str]:
        """Every file of the store save the cache of decoded data and locks."""
        files = [p.relative_to(self.store) for p in self.store.rglob("*") if p.is_file()]
        return sorted(str(p) for p in files if p.parts[0] not in ("cache", "locks"))


# --- the server's client

_numbers = itertools.count()


@functools.cache
def _folder() -> Path:
    """Where what children write is kept; removed when this process ends."""
    _folder.kept = tempfile.TemporaryDirectory(prefix="apmctl-children.")  # type: ignore[attr-defined]
    return Path(_folder.kept.name)  # type: ignore[attr-defined]


class _Server:
    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = os.environ | _ENVIRONMENT
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command"], cwd=ROOT, env=environment, text=True, **pipes
        )
        atexit.register(self._process.communicate)

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@functools.cache
def _server() -> _Server:
    return _Server()


# --- the server


def load() -> None:
    """Import all that the commands import in their bodies."""
    import apmctl
    import apmctl_core
    from apmctl import cli
    from apmctl_core.machine import interrupts

    for package in (apmctl, apmctl_core):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    # The first step of an optimiser imports torch._dynamo, which takes a second.
    for name in ("PIL.ImageDraw", "PIL.ImageOps", "safetensors.torch", "sklearn.datasets", "torch._dynamo"):
        importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()):
        cli.run(["presets", "--quiet"])  # the parser imports much on its first use
    interrupts.restore()


def _serve() -> None:
    load()
    codes: dict[int, int] = {}
    pids: list[int] = []
    for line in sys.stdin:
        request = json.loads(line)
        if request.pop("action") == "start":
            pids.append(answer := _fork(**request))
        else:
            answer = _code(request["pid"], codes)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in pids:
        if _code(pid, codes) is None:  # left by a test that failed
            os.kill(pid, signal.SIGKILL)


def _code(pid: int, codes: dict[int, int]) -> int | None:
    if pid not in codes:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        codes[pid] = os.waitstatus_to_exitcode(status)
    return codes[pid]


def _fork(**request: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(**request)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def _become(
    arguments: list[str],
    out: str,
    err: str,
    env: dict[str, str],
    folder: str,
    eager: bool = False,
    die_at: int = 0,
    root: str | None = None,
) -> NoReturn:
    """Be the command. `eager` saves a state at every chance, not only when that is cheap.

    With `die_at` n it kills itself before its n-th change of the files under `root`; with a negative n it only counts
    them, and writes their number as the last line of stderr.
    """
    os.setsid()
    for descriptor, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    counter = _Counter(root, die_at) if root is not None else None
    if eager:
        save_always()
    from apmctl import cli

    sys.argv = ["apmctl", *arguments]
    try:
        cli.main()
    except SystemExit as e:
        code = e.code
    sys.stdout.flush()
    if counter is not None:
        os.write(2, f"\n{counter.count}\n".encode())
    os._exit(code if isinstance(code, int) else 0)


def save_always(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Have runs save their state at every chance: those of a second would save nothing otherwise."""
    from apmctl_core.training import checkpoint

    patch(checkpoint, "_LEAST_SECONDS", 0.0)
    patch(checkpoint, "_SHARE", 1e9)


class _Counter:
    """Counts changes of the files under a folder, through Python's audit events, and dies at one of them."""

    def __init__(self, root: str, die_at: int) -> None:
        self.count = 0
        self._root = root
        self._die_at = die_at
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = event in CHANGES
        if changes and str(arguments[0]).startswith(self._root):
            self.count += 1
            if self.count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _serve()
