"""Listing a local data set: every data file below a folder, found once and sorted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import apmctl_core.formats.readers  # noqa: F401  # registers the formats
from apmctl_core.data.source import KNOWN, File, Listing
from apmctl_core.errors import DataError
from apmctl_core.formats.registry import formats

_MAX_DEPTH = 16


def list_files(path: Path) -> Listing:
    """List the data files of all formats below a folder, or the single file `path`.

    Hidden files are left out, links are followed only to files inside the folder. Raises DataError if there is
    nothing at `path`, it is a file of no format, or it may not be read.
    """
    try:
        root = path.expanduser().resolve()
        return _single(root) if root.is_file() else _listing(root)
    except FileNotFoundError as error:
        raise DataError(
            f"there is no data set at {path}", f"check the path; known names are {', '.join(KNOWN)}"
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(
            f"cannot read {error.filename or path}: {reason}", "check the path and its permissions"
        ) from error


def _single(path: Path) -> Listing:
    suffixes = sorted(suffix for each in formats() if each.single_file for suffix in each.suffixes)
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path} is not a data set", f"give a folder, or a file of type {', '.join(suffixes)}")
    info = path.stat()
    return Listing(path.parent, (File(PurePosixPath(path.name), info.st_size, info.st_mtime_ns),), frozenset())


def _listing(root: Path) -> Listing:
    suffixes = {suffix for each in formats() for suffix in each.suffixes}
    data_folders = {folder for each in formats() for folder in each.folders}
    files, folders, skipped = [], set(), 0
    for entry, path in _entries(root, PurePosixPath()):
        if entry.is_dir(follow_symlinks=False):
            folders.add(path)
        elif entry.is_symlink() and not _may_follow(entry, root):
            # A downloaded folder must not be able to pull in files from elsewhere on this machine.
            skipped += 1
        elif path.suffix.lower() in suffixes or path.parent.name in data_folders:
            info = entry.stat()
            if stat.S_ISREG(info.st_mode):  # a pipe would block, a device has no end
                files.append(File(path, info.st_size, info.st_mtime_ns))
    return Listing(root, tuple(sorted(files)), frozenset(folders), skipped)


def _entries(folder: Path, relative: PurePosixPath) -> Iterator[tuple[os.DirEntry[str], PurePosixPath]]:
    if len(relative.parts) > _MAX_DEPTH:
        raise DataError(f"{folder} is nested more than {_MAX_DEPTH} folders deep", "give the folder of the images")
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name != "__MACOSX":
                path = relative / entry.name
                yield entry, path
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(Path(entry.path), path)


def _may_follow(entry: os.DirEntry[str], root: Path) -> bool:
    try:
        return not entry.is_dir() and Path(entry.path).resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # dangling, or a loop
        return False
