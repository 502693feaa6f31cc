"""Real git repositories with LFS objects beside them, as the Hub keeps them; laid out as olah reads them."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")
LFS_ENDINGS = (".safetensors", ".parquet", ".png")
LFS_SIZE = 1 << 20
_WHO = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
        (("NAME", "tester"), ("EMAIL", "tester@example.org"))}  # fmt: skip


class Moved(Exception):
    """A branch is not at the commit that a change builds on."""


@dataclass(frozen=True)
class Entry:
    """A file of a commit: `oid` is git's, `lfs` the sha256 of a large one."""

    path: str
    oid: str
    size: int
    lfs: str | None = None


def is_lfs(path: str, size: int) -> bool:
    """Whether a file is kept as an LFS object."""
    return size > 0 and (path.endswith(LFS_ENDINGS) or size > LFS_SIZE)


class Repository:
    """One repository at `root/TYPEs/owner/name`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = path / ".git" / "lfs" / "objects"

    def git(self, *arguments: str, data: bytes | None = None, index: str | None = None) -> bytes:
        """Run git in it. Raises CalledProcessError."""
        env = os.environ | _WHO | ({"GIT_INDEX_FILE": index} if index else {})
        done = subprocess.run(
            ["git", "-C", self.path, *arguments], input=data, capture_output=True, check=True, env=env
        )
        return done.stdout

    def make(self, private: bool) -> None:
        """Create it with a first commit, as the Hub does."""
        self.path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        if private:
            (self.path / ".git" / "private").touch()
        attributes = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS)
        self.commit("main", None, "initial commit", {".gitattributes": attributes.encode()}, ())

    @property
    def private(self) -> bool:
        return (self.path / ".git" / "private").exists()

    @property
    def gated(self) -> bool:
        return (self.path / ".git" / "gated").exists()

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag, another ref or a commit."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            try:
                return self.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
            except subprocess.CalledProcessError:
                continue
        return None

    def refs(self, prefix: str) -> dict[str, str]:
        """The refs under a prefix with their commits."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", prefix).decode().splitlines()
        return {name.removeprefix(f"{prefix}/"): oid for name, oid in (line.split() for line in lines)}

    def entries(self, commit: str) -> list[Entry]:
        """All files of a commit."""
        listed = self.git("ls-tree", "-r", "-z", "--long", commit).decode().split("\0")
        found = []
        for line in filter(None, listed):
            info, path = line.split("\t", 1)
            _, _, oid, size = info.split()
            found.append(self._entry(path, oid, int(size)))
        return found

    def _entry(self, path: str, oid: str, size: int) -> Entry:
        pointer = POINTER.fullmatch(self.git("cat-file", "blob", oid)) if size < 200 else None
        if pointer is None:
            return Entry(path, oid, size)
        return Entry(path, oid, int(pointer[2]), pointer[1].decode())

    def content(self, entry: Entry) -> bytes | Path:
        """The bytes of a small file, the path of a large one."""
        return self.object(entry.lfs) if entry.lfs else self.git("cat-file", "blob", entry.oid)

    def object(self, sha256: str) -> Path:
        """Where an LFS object lies."""
        return self.objects / sha256[:2] / sha256[2:4] / sha256

    def put_object(self, sha256: str, temporary: Path) -> bool:
        """Take in an uploaded object, if it is what it is called."""
        with temporary.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        target = self.object(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
        return True

    def commit(
        self,
        branch: str,
        parent: str | None,
        message: str,
        files: dict[str, bytes],
        deleted: tuple[str, ...],
        lfs: dict[str, tuple[str, int]] | None = None,
    ) -> str:
        """Make a commit on a branch, which must still be at `parent` if that is given. Raises Moved."""
        ref = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
        head = self.resolve(branch)
        if parent is not None and parent != head:
            raise Moved
        pointers = {
            path: f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()
            for path, (oid, size) in (lfs or {}).items()
        }
        with tempfile.TemporaryDirectory() as folder:
            index = f"{folder}/index"
            if head:
                self.git("read-tree", head, index=index)
            for path in deleted:
                self.git("update-index", "--force-remove", path, index=index)
            for path, data in (files | pointers).items():
                oid = self.git("hash-object", "-w", "--stdin", data=data).decode().strip()
                self.git("update-index", "--add", "--cacheinfo", f"100644,{oid},{path}", index=index)
            tree = self.git("write-tree", index=index).decode().strip()
        parents = ["-p", head] if head else []
        made = self.git("commit-tree", tree, *parents, "-m", message).decode().strip()
        try:
            self.git("update-ref", ref, made, head or "0" * 40)
        except subprocess.CalledProcessError as e:
            raise Moved from e
        return made
