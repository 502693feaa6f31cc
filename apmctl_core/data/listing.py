"""The files of a local data set: found once, sorted, with what tells that they changed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from apmctl_core.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_NATIVE = frozenset({"cifar-10-batches-py", "cifar-100-python"})
_MAX_DEPTH = 16


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


def _is_data(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() == ".parquet" or path.parent.name in _NATIVE


def _may_follow(entry: os.DirEntry[str], root: Path) -> bool:
    try:
        return not entry.is_dir() and Path(entry.path).resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # dangling, or a loop
        return False


class _Walk:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[File] = []
        self.folders: set[PurePosixPath] = set()
        self.skipped = 0

    def enter(self, folder: Path, relative: PurePosixPath, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise DataError(f"{folder} is nested more than {_MAX_DEPTH} folders deep", "give the folder of the images")
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    self._take(entry, relative / entry.name, depth)

    def _take(self, entry: os.DirEntry[str], path: PurePosixPath, depth: int) -> None:
        if entry.is_dir(follow_symlinks=False):
            self.folders.add(path)
            self.enter(Path(entry.path), path, depth + 1)
        elif entry.is_symlink() and not _may_follow(entry, self.root):
            # A downloaded folder must not be able to pull in files from elsewhere on this machine.
            self.skipped += 1
        elif _is_data(path):
            info = entry.stat()
            if stat.S_ISREG(info.st_mode):  # a pipe would block, a device has no end
                self.files.append(File(path, info.st_size, info.st_mtime_ns))


def list_files(path: Path) -> Listing:
    """List the data files (images, parquet, CIFAR's native files) below a folder, or the one parquet file `path`.

    Hidden files are left out, links are followed only to files inside the folder. Raises DataError if there is
    nothing at `path` or it may not be read.
    """
    try:
        root = path.expanduser().resolve()
        if root.is_file():
            if root.suffix.lower() != ".parquet":
                raise DataError(f"{path} is not a data set", "give a folder of images, or a .parquet file")
            info = root.stat()
            return Listing(root.parent, (File(PurePosixPath(root.name), info.st_size, info.st_mtime_ns),), frozenset())
        walk = _Walk(root)
        walk.enter(root, PurePosixPath(), 0)
    except FileNotFoundError as error:
        raise DataError(
            f"there is no data set at {path}", "check the path; known names: apmctl distill --help"
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(
            f"cannot read {error.filename or path}: {reason}", "check the path and its permissions"
        ) from error
    return Listing(root, tuple(sorted(walk.files)), frozenset(walk.folders), walk.skipped)
