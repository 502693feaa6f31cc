"""One process at a time for each key: a file lock, and beside it a note that says who holds it.

The kernel drops the lock of a process that dies, so another process on this machine takes it over at once. A network
file system may hide the lock from other machines: there the note counts, and its owner is taken to be alive until the
note is gone.

Lock files are opened, taken and removed only under one guard lock, which is held for moments. So no process can hold a
file that another has just unlinked, and files of finished runs need not be kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine.interrupts import shielded
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import TEMPORARY, disk_errors, make_folder, read_bounded, write_bytes

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_S = 0.25
_GUARD_S = 30.0
_STALE_S = 3600.0
_CLOCK_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock: the machine (by name, and by the boot that its containers share), the process, the run."""

    host: str
    boot: str
    pid: int
    started: float
    since: str
    name: str

    @property
    def foreign(self) -> bool:
        """Whether this is a process of another machine, whose locks may be invisible here."""
        return self.host != socket.gethostname() and self.boot != _boot()

    @property
    def alive(self) -> bool:
        """Whether the process still runs, as far as can be told without trying its lock."""
        started = None if self.foreign else _start_of(self.pid)
        # Another process may have the number by now; a corrected clock moves the start a little.
        return self.foreign or (started is not None and abs(started - self.started) < _CLOCK_S)

    def __str__(self) -> str:
        where = f" on {self.host}" if self.foreign else ""
        return f"process {self.pid}{where} (since {self.since})"


@dataclass(frozen=True)
class _Paths:
    folder: Path
    key: str

    @property
    def guard(self) -> Path:
        return self.folder / ".guard"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.key}.lock"

    @property
    def note(self) -> Path:
        return self.folder / f"{self.key}.json"


@contextlib.contextmanager
def hold(
    folder: Path,
    key: str,
    name: str,
    *,
    wait: bool = True,
    emit: Emit = silent,
    hint: str = "wait for it to end, or set `wait`",
) -> Iterator[None]:
    """Hold the lock `key` of the lock folder for the block; `name` says in messages what the holder works on.

    While another process holds it, this emits a Note and waits; with `wait=False` it raises StoreError with `hint` at
    once. Also raises StoreError where the folder cannot be written.
    """
    lock = _Lock(_Paths(folder, key), name)
    announced: Owner | str = ""
    try:
        while not lock.attempt():
            owner = lock.owner or "another process"
            if not wait:
                raise StoreError(f"{name} is locked by {owner}", hint + lock.advice)
            if owner != announced:
                announced = owner
                emit(Note(text=f"waiting for {owner} to finish {name}{lock.advice}"))
            time.sleep(POLL_S)
        yield
    finally:
        lock.release()


def owner_of(folder: Path, key: str) -> Owner | None:
    """Who holds the lock, or held it when it died; None without a note that can be read."""
    try:
        values = strict_json.parse_object(read_bounded(_Paths(folder, key).note, 1 << 16), "the note of a lock")
        owner = Owner(**values)
        types = [type(v) for v in asdict(owner).values()]
    except (ArtifactError, StoreError, TypeError):
        return None
    return owner if types == [str, str, int, float, str, str] else None


def is_left(folder: Path, key: str) -> bool:
    """Whether files of a lock exist, held or not."""
    paths = _Paths(folder, key)
    return paths.lock.exists() or paths.note.exists()


def running(folder: Path, key: str) -> bool:
    """Whether a living process holds the lock, judged by its note: nothing is opened for writing."""
    owner = owner_of(folder, key)
    return owner is not None and owner.alive


class _Lock:
    def __init__(self, paths: _Paths, name: str) -> None:
        self.paths = paths
        self.name = name
        self.owner: Owner | None = None  # who holds it, after a failed attempt
        self._held: BaseFileLock | None = None

    @property
    def advice(self) -> str:
        """What to do about a holder on another machine, which may be dead."""
        foreign = self.owner is not None and self.owner.foreign
        return f"; if that process is dead, delete {self.paths.note}" if foreign else ""

    def attempt(self) -> bool:
        """Take the lock if it is free, and leave a note."""
        make_folder(self.paths.folder)
        with shielded(), _guard(self.paths), disk_errors(self.paths.lock, "lock"):
            self.owner = owner_of(self.paths.folder, self.paths.key)
            if self.owner is not None and self.owner.foreign:
                return False
            self._held = _take(self.paths.lock)
            if self._held is None:
                return False
            _sweep(self.paths)
            write_bytes(self.paths.note, json.dumps(asdict(_self(self.name))).encode())
        return True

    def release(self) -> None:
        """Give the lock back if it is held, and remove its files; files that the disk keeps do no harm."""
        if self._held is None:
            return
        with shielded():
            try:
                with contextlib.suppress(OSError, StoreError), _guard(self.paths):
                    self.paths.note.unlink(missing_ok=True)
                    self.paths.lock.unlink(missing_ok=True)
            finally:
                with contextlib.suppress(OSError):
                    self._held.release()
                self._held = None


@contextlib.contextmanager
def _guard(paths: _Paths) -> Iterator[None]:
    from filelock import FileLock, Timeout

    guard = FileLock(paths.guard, thread_local=False)
    with disk_errors(paths.guard, "lock"):
        try:
            guard.acquire(timeout=_GUARD_S, poll_interval=0.01)
        except Timeout as e:
            raise StoreError(
                f"{paths.guard} has been locked for {_GUARD_S:.0f} s",
                "a process that uses this folder hangs: stop it and try again",
            ) from e
        except NotImplementedError as e:
            raise StoreError(f"the file system of {paths.folder} has no locks", "choose another `store`") from e
    try:
        yield
    finally:
        guard.release()


def _take(path: Path) -> BaseFileLock | None:
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _sweep(own: _Paths) -> None:
    """Remove what dead processes left behind: this key's files at once, those of other keys after an hour.

    Only under the guard, which is held while notes are written.
    """
    for path in own.folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if path.name.startswith(f".{own.note.name}.") or time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
    for path in own.folder.glob("*.lock"):
        paths = _Paths(own.folder, path.stem)
        with contextlib.suppress(OSError):
            if paths.key == own.key or time.time() - path.stat().st_mtime < _STALE_S:
                continue
            owner = owner_of(paths.folder, paths.key)
            lock = None if owner is not None and owner.foreign else _take(paths.lock)
            if lock is not None:
                paths.note.unlink(missing_ok=True)
                paths.lock.unlink(missing_ok=True)
                lock.release()


def _self(name: str) -> Owner:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    started = _start_of(os.getpid()) or 0.0
    return Owner(socket.gethostname(), _boot(), os.getpid(), started, now, name)


def _start_of(pid: int) -> float | None:
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError):
        return None


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()
