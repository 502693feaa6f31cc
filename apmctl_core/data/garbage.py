"""What the caches of decoded data sets and of preprocessing hold, as they could be emptied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apmctl_core.storage import files
from apmctl_core.storage.garbage import Garbage

_CACHES = {"data": "decoded data set", "preprocessing": "preprocessing"}


def garbage(cache: Path) -> Iterator[Garbage]:
    """Everything in the caches: what is half-made, and what can be made again.

    Each is written under the lock of its name, which lies beside it. Raises StoreError.
    """
    for name, what in _CACHES.items():
        folder = cache / name
        with files.disk_errors(folder, "read"):
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            half = path.name.startswith(".")
            key = path.name.lstrip(".").partition(".")[0]
            if path.suffix not in (".lock", ".json") and not path.is_symlink():
                about = (f"{what}, half-made", "leftover") if half else (what, "cache")
                yield Garbage(path=path, what=about[0], kind=about[1], lock=(folder, key))
