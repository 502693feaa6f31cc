"""What a push has to change in a repository: files are compared by the digests that the Hub has of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts.kind import KINDS
from apmctl_core.formats import set_parquet as parquet
from apmctl_core.hub.client import File
from apmctl_core.storage import files


@dataclass(frozen=True)
class Change:
    """Which of our files are new or changed, with their bytes in `sizes`, and which of an earlier push to delete."""

    add: dict[str, Path]
    delete: tuple[str, ...]
    unchanged: int
    sizes: dict[str, int]


def compare(ours: Mapping[str, Path], theirs: Mapping[str, File]) -> Change:
    """The changes that turn `theirs`, the files of a repository, into `ours`; files of other origin are left alone."""
    add = {name: path for name, path in sorted(ours.items()) if not _same(path, theirs.get(name))}
    obsolete = sorted(name for name in theirs if name not in ours and _is_ours(name))
    sizes = {name: path.stat().st_size for name, path in add.items()}
    return Change(add, tuple(obsolete), len(ours) - len(add), sizes)


def _is_ours(name: str) -> bool:
    return parquet.is_shard(name) or any(kind.has(name) for kind in KINDS.values())


def _same(path: Path, file: File | None) -> bool:
    size = path.stat().st_size
    if file is None or file.size != size:
        return False
    if file.sha256 is not None:
        return files.sha256_of(path) == file.sha256
    with files.open_regular(path) as content:  # the name that git gives a file's content
        begun = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        return hashlib.file_digest(content, lambda: begun).hexdigest() == file.blob
