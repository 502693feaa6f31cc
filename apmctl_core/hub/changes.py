"""What a push has to change in a repository: files are compared by the digests that the Hub has of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.formats import set_parquet as parquet
from apmctl_core.hub.client import File
from apmctl_core.storage import files


@dataclass(frozen=True)
class Change:
    """Which of our files are new or other than those there, and which of an earlier push are left over.

    `sizes` are the bytes of the files to add.
    """

    add: dict[str, Path]
    delete: tuple[str, ...]
    unchanged: int
    sizes: dict[str, int]


def compare(ours: Mapping[str, Path], there: Mapping[str, File]) -> Change:
    """What has to change; files that are not of our making are left alone."""
    add = {name: path for name, path in ours.items() if not _same(path, there.get(name))}
    left = [name for name in there if name not in ours and _is_ours(name)]
    sizes = {name: path.stat().st_size for name, path in add.items()}
    return Change(add, tuple(sorted(left)), len(ours) - len(add), sizes)


def _is_ours(name: str) -> bool:
    return parquet.is_shard(name) or any(manifests.is_file_of(kind, name) for kind in manifests.KINDS)


def _same(path: Path, file: File | None) -> bool:
    if file is None or file.size != path.stat().st_size:
        return False
    if file.sha256 is not None:
        return files.sha256_of(path) == file.sha256
    return _blob(path) == file.blob


def _blob(path: Path) -> str:
    """The name that git gives a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with files.open_regular(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
