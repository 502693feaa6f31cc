"""Folders in the store's cache in which pushes and pulls work, `WAY/REPOSITORY/`, each under a lock of its own.

The folder of a push is of no use to the next one. That of a pull has what had arrived, from which the next pull of the
same commit goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from apmctl_core.artifacts.store import Store
from apmctl_core.events import Emit, silent
from apmctl_core.hub import origins
from apmctl_core.storage import files, locks
from apmctl_core.storage.garbage import Garbage

WAYS = {"push": "the push to", "pull": "the pull of"}
_KEPT_S = 24 * 3600.0  # how long a pull that was given up can be resumed


@contextlib.contextmanager
def staged(store: Store, way: str, repo: str, key: str, *, wait: bool = True, emit: Emit = silent) -> Iterator[Path]:
    """The folder of the push or the pull that `key` identifies, for one process a repository; what is in it stays.

    What others left is removed. Waits for a process that does the same, or raises StoreError with `wait=False`.
    """
    place = origins.folder(store) / way / repo.replace("/", "--")
    with locks.hold(store.locks, _lock(place), f"{WAYS[way]} {repo}", wait=wait, emit=emit):
        sweep(store, _KEPT_S)
        for leftover in files.subfolders(place):
            if leftover.name != key:
                files.remove_tree(leftover)
        try:
            files.make_folder(place / key)
            yield place / key
        finally:
            files.remove_empty(place / key, place, place.parent)


def sweep(store: Store, kept_s: float = 0.0) -> list[Path]:
    """Remove what `garbage` gives; returns what was removed. What a process holds or the disk refuses stays."""
    return [each.path for each in garbage(store, kept_s) if each.remove()]


def garbage(store: Store, kept_s: float = 0.0) -> Iterator[Garbage]:
    """What killed pushes left, and what pulls left more than `kept_s` seconds ago."""
    home = origins.folder(store)
    older = [*home.glob("push-*"), *files.subfolders(home / "downloads")]  # as apmctl 0.1.0 left them, without a lock
    for place in (*older, *(place for way in WAYS for place in files.subfolders(home / way))):
        with contextlib.suppress(OSError):
            if place.parent.name != "push" and time.time() - _touched(place) < kept_s:
                continue
            way = "push" if "push" in (place.parent.name, place.name[:4]) else "pull"
            yield Garbage(path=place, kind="leftover", what=f"an unfinished {way}", lock=(store.locks, _lock(place)))


def _touched(place: Path) -> float:
    """When something in a folder last changed."""
    return max(path.lstat().st_mtime for path in (place, *place.rglob("*")))


def _lock(place: Path) -> str:
    return f"{place.parent.name}-{place.name}"
