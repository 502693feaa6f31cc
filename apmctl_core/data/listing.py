"""The files of a local data set, with what shows that they changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, order=True)
class File:
    """A file below the root: its path relative to it, its size in bytes and its time of change in ns."""

    path: PurePosixPath
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """A folder (or a single file's folder) with its data files, sorted by path, and all its folders.

    `skipped_links` counts symbolic links that were not followed, because they lead out of the folder or to a folder.
    """

    root: Path
    files: tuple[File, ...]
    folders: frozenset[PurePosixPath]
    skipped_links: int = 0

    def with_suffix(self, suffixes: frozenset[str]) -> tuple[PurePosixPath, ...]:
        """The paths of the files with one of these suffixes, in any case of letters."""
        return tuple(f.path for f in self.files if f.path.suffix.lower() in suffixes)
