"""One process at a time for each key: a file lock, and beside it a note that says who holds it.

The kernel drops the lock of a process that dies, so another process on this machine takes it over at once. A network
file system may hide the lock from other machines: there the note counts, and its owner is taken to be alive until the
note is gone.

Lock files are removed only by who holds them, so a lock counts only while its file still has a name: a process that
opened the file of a run that has just finished opens the next one instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.machine.interrupts import shielded
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import TEMPORARY, disk_errors, make_folder, read_bounded, write_bytes

POLL_S = 0.25
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


@contextlib.contextmanager
def hold(
    folder: Path,
    key: str,
    name: str,
    *,
    wait: bool = True,
    emit: Emit = silent,
    hint: str = "wait for it to end",
) -> Iterator[None]:
    """Hold the lock `key` of the lock folder for the block; `name` says in messages what the holder works on.

    While another process holds it, this emits a Note and waits; with `wait=False` it raises StoreError with `hint` at
    once. Also raises StoreError where the folder cannot be written.
    """
    path, held, announced = _lock(folder, key), None, ""
    try:
        for attempt in itertools.count():
            make_folder(folder)
            with shielded(), disk_errors(path, "lock"):
                owner = _owner(path)
                held = None if owner and owner.foreign else _take(path)
                if held is not None:
                    _sweep(path)
                    write_bytes(_note(path), msgspec.json.encode(_self(name)))
                    break
            if not (owner and owner.alive) and (attempt == 0 or announced):
                time.sleep(POLL_S)  # a moment without a valid note: its holder has just taken it, or is leaving
                continue
            holder = str(owner or "another process")
            advice = f"; if that process is dead, delete {_note(path)}" if owner and owner.foreign else ""
            if not wait:
                raise StoreError(f"{name} is locked by {holder}", hint + advice)
            if holder != announced:
                announced = holder
                emit(Note(text=f"waiting for {holder} to finish {name}{advice}"))
            time.sleep(POLL_S)
        yield
    finally:
        if held is not None:
            with shielded():
                _release(path, held)


def owner_of(folder: Path, key: str) -> Owner | None:
    """Who holds the lock, or held it when it died; None without a note that can be read."""
    return _owner(_lock(folder, key))


def is_left(folder: Path, key: str) -> bool:
    """Whether files of a lock exist, held or not."""
    path = _lock(folder, key)
    return path.exists() or _note(path).exists()


def running(folder: Path, key: str) -> bool:
    """Whether a living process holds the lock, judged by its note: nothing is opened for writing."""
    owner = owner_of(folder, key)
    return owner is not None and owner.alive


def living(folder: Path) -> list[Owner]:
    """Who holds the locks of a folder, judged by their notes."""
    owners = (_owner(note.with_suffix(".lock")) for note in sorted(folder.glob("[!.]*.json")))
    return [owner for owner in owners if owner is not None and owner.alive]


def _lock(folder: Path, key: str) -> Path:
    return folder / f"{key}.lock"


def _note(lock: Path) -> Path:
    return lock.with_suffix(".json")


def _owner(lock: Path) -> Owner | None:
    try:
        values = strict_json.parse_object(read_bounded(_note(lock), 1 << 16), "the note of a lock")
        return msgspec.convert(values, Owner)
    except (ArtifactError, StoreError, msgspec.ValidationError):
        return None


def _take(lock: Path) -> int | None:
    """The descriptor of a lock file that is locked from now on, or None where another process has it."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError as e:
            os.close(descriptor)
            if isinstance(e, BlockingIOError | PermissionError):
                return None
            raise
        os.close(descriptor)


def _release(lock: Path, held: int) -> None:
    """Remove the files of a lock and give it back; files that the disk keeps do no harm."""
    try:
        with contextlib.suppress(OSError):
            _note(lock).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    finally:
        os.close(held)


def _sweep(own: Path) -> None:
    """Remove what dead processes left behind: this key's temporary notes at once, files of other keys after an hour."""
    for path in own.parent.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if path.name.startswith(f".{_note(own).name}.") or _is_stale(path):
                path.unlink()
    for path in own.parent.glob("*.lock"):
        with contextlib.suppress(OSError):
            owner = _owner(path)
            if path != own and _is_stale(path) and not (owner and owner.foreign):
                held = _take(path)
                if held is not None:
                    _release(path, held)


def _is_stale(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _STALE_S


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
