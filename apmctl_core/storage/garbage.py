"""What a store can do without, wherever it lies: found first, so that it can be shown, and removed under its lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apmctl_core.errors import StoreError
from apmctl_core.storage import files, locks


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or a folder, what it is, and the lock (its folder and key) without which it may be in use.

    `kind` is `leftover` for what a killed process left, `orphan` for a report whose set is not in the store, `cache`
    for what can be computed again.
    """

    path: Path
    kind: str
    what: str
    lock: tuple[Path, str]

    @property
    def bytes(self) -> int:
        return files.tree_bytes(self.path)

    @property
    def in_use(self) -> bool:
        """Whether a living process holds its lock."""
        return locks.running(*self.lock)

    def remove(self) -> bool:
        """Remove it, and folders above that are then empty; False where it is in use or cannot be removed."""
        try:
            with locks.hold(*self.lock, self.path.name, wait=False):
                files.discard(self.path)
        except StoreError:
            return False
        files.remove_empty(self.path.parent, self.path.parent.parent)
        return True
