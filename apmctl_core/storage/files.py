"""Files and folders that are complete or absent: atomic writing, bounded reading, one error for every disk failure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from apmctl_core.errors import ArtifactError, StoreError

TRASH = ".trash"  # suffix of dot files and folders that are being removed
TEMPORARY = ".tmp"  # suffix of dot files and folders that are being written; a killed process leaves them behind
DAMAGED_HINT = "get a fresh copy of it, or remove it with `rm` and make it again"

# Never follow a link or wait for the writer of a pipe; Windows has neither flag.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_RESUME = "free some space, then rerun the same command to resume"
_PERMISSIONS = "change its permissions, or choose another `store`"
CAUSES = {
    errno.ENOSPC: ("the disk is full", _RESUME),
    errno.EDQUOT: ("your quota is used up", _RESUME),
    errno.EFBIG: ("a file would be larger than allowed", "raise `ulimit -f`, then rerun the same command to resume"),
    errno.ENOLCK: ("the file system has no locks", "choose another `store`"),
    errno.ENOSYS: ("the file system has no locks", "choose another `store`"),
    errno.EROFS: ("the file system is read-only", "choose another `store`"),
    errno.EACCES: ("permission denied", _PERMISSIONS),
    errno.EPERM: ("permission denied", _PERMISSIONS),
    errno.ENOTDIR: ("not a directory", "choose another `store`"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a `store` with a shorter path, or a shorter `name`"),
}


def store_error(error: OSError, path: Path | str, doing: str) -> StoreError:
    """The StoreError that says in plain words what the system refused to do with `path`."""
    cause, hint = CAUSES.get(error.errno or 0, (error.strerror or str(error), "check the disk"))
    return StoreError(f"cannot {doing} {path}: {cause}", hint)


@contextlib.contextmanager
def disk_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn every OSError of the block into a StoreError about `path`."""
    try:
        yield
    except OSError as e:
        raise store_error(e, path, doing) from e


@contextlib.contextmanager
def atomic(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that appears under `path` when the block is done, flushed to the disk, or not at all.

    What was at `path` is kept at `previous` if that is given. Raises StoreError where the disk refuses.
    """
    temporary = _temporary(path)
    with disk_errors(path):
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Between these two renames only `previous` exists: a reader that misses the one takes the other.
            if previous is not None and path.exists():
                path.replace(previous)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill with flushed files that appears at `path` when the block is done, or not at all.

    A folder that is at `path` already is replaced. Call it with the lock of `path` held. Raises StoreError.
    """
    temporary, replaced = _temporary(path), _temporary(path)
    make_folder(temporary)
    try:
        yield temporary
        sync(temporary)
        with disk_errors(path):
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
        sync(path.parent)
    finally:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def sweep(folder: Path, name: str) -> None:
    """Remove what killed processes left under the temporary names of `name`; call it with its lock held."""
    for leftover in folder.glob(f".{name}.*"):
        remove_tree(leftover)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically. Raises StoreError."""
    with atomic(path) as file:
        file.write(data)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, even if another process removes empty ones meanwhile. Raises StoreError."""
    with disk_errors(path, "make"):
        for _ in range(20):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as e:
                removed = e
            else:
                return
        raise removed


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries where the system can, to the disk. Raises StoreError."""
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # not every file system can
                raise
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """An ordinary file for reading: never a link, a pipe or a device, any of which a stranger may have planted.

    Raises ArtifactError where it is missing or not an ordinary file, StoreError where it cannot be read.
    """
    with disk_errors(path, "read"):
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError as e:
            raise ArtifactError(f"{path} is missing", DAMAGED_HINT) from e
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENXIO):
                raise ArtifactError(f"{path} is not an ordinary file", DAMAGED_HINT) from e
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ArtifactError(f"{path} is not an ordinary file", DAMAGED_HINT)
        with os.fdopen(descriptor, "rb") as file:
            yield file


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of an ordinary file of at most `limit` bytes. Raises ArtifactError, StoreError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(size + 1)
    if max(size, len(data)) > limit:  # the file may be growing
        raise ArtifactError(f"{path} is larger than {limit} bytes", DAMAGED_HINT)
    return data


def regular_size(path: Path) -> int | None:
    """The size of an ordinary file at `path`, which may be any text a user typed, else None; follows no links."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`, which may be any text a user typed. Raises StoreError for lack of permission."""
    try:
        return path.is_dir()
    except PermissionError as e:
        raise store_error(e, path, "read") from e
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """The sha256 of an ordinary file, read in pieces. Raises ArtifactError, StoreError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_sha256(path: Path, wanted: str, found: str) -> None:
    """Raise ArtifactError where the sha256 of a file is not the one that was listed when it was written."""
    if found != wanted:
        raise ArtifactError(f"{path} is not the file that was written: its sha256 differs", DAMAGED_HINT)


def tree_bytes(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; links are not followed, and what vanishes meanwhile is 0."""
    if not path.is_dir() or path.is_symlink():
        return regular_size(path) or 0
    return sum(regular_size(Path(folder) / name) or 0 for folder, _, names in os.walk(path) for name in names)


def remove_tree(path: Path) -> None:
    """Delete a folder with its content, or a file; a missing one is no error. Raises StoreError."""
    with disk_errors(path, "remove"):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process is removing it, too
            shutil.rmtree(path, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a file or a folder that readers may see: hidden by one rename, then deleted. Raises StoreError."""
    trash = path.with_name(f".{path.name.lstrip('.')}.{secrets.token_hex(4)}{TRASH}")
    with disk_errors(path, "remove"):
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
    remove_tree(trash)


def remove_empty(*folders: Path) -> None:
    """Remove those of `folders` that are empty, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted; none where it is missing. Links are not followed. Raises StoreError."""
    with disk_errors(path, "read"):
        try:
            with os.scandir(path) as entries:
                return sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []


def require_space(root: Path, needed: int) -> None:
    """Raise StoreError where the disk of `root`, which need not exist yet, has less than `needed` bytes free."""
    folder = root.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with disk_errors(root, "read"):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"the disk of {root} has {_size(free)} free, {_size(needed)} are needed",
            "free some space, or choose another `store`",
        )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def user_store() -> Path:
    """The folder of the user's store: the one that the environment names, else one in the user's data."""
    named = os.environ.get("APMCTL_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("apmctl")
