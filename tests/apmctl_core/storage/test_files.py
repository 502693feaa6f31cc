"""Files and folders: in which order they are flushed and renamed, what is never followed, and what goes wrong."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apmctl_core.artifacts import Manifest, Store
from apmctl_core.artifacts.kinds.reports import Report, save_report
from apmctl_core.data import load
from apmctl_core.data.loading import parse
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.storage import files
from tests.apmctl_core.artifacts.artifact_samples import ROW


class Disk(list[str]):
    """What happens below a folder, in order: `flush NAME`, `rename NAME NAME`; random parts of names are left out."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._fsync, self._rename = root, os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(os, "replace", self.rename)

    def fsync(self, descriptor: int) -> None:
        self._note("flush", Path(f"/proc/self/fd/{descriptor}").readlink())
        self._fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", source, target)
        self._rename(source, target)

    def _note(self, action: str, *paths: Path) -> None:
        if all(Path(path).is_relative_to(self._root) for path in paths):
            names = [re.sub(r"\.[0-9a-f]{8}\.(tmp|trash)$", r".\1", Path(path).name) for path in paths]
            self.append(" ".join([action, *names]))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_a_file_is_flushed_before_it_gets_its_name(tmp_path: Path, disk: Disk) -> None:
    files.write_bytes(tmp_path / "a", b"1")
    assert disk == ["flush .a.tmp", "rename .a.tmp a"]


def test_the_file_before_is_kept_until_the_new_one_is_flushed(tmp_path: Path, disk: Disk) -> None:
    path, previous = tmp_path / "a", tmp_path / "b"
    for content in (b"1", b"2", b"3"):
        disk.clear()
        with files.atomic(path, previous) as file:
            file.write(content)
    assert disk == ["flush .a.tmp", "rename a b", "rename .a.tmp a"]
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")


def test_a_folder_is_flushed_before_it_gets_its_name_and_the_one_above_after(tmp_path: Path, disk: Disk) -> None:
    for content, before in ((b"1", []), (b"2", ["rename a .a.tmp"])):
        disk.clear()
        with files.atomic_folder(tmp_path / "a") as temporary:
            (temporary / "file").write_bytes(content)
        assert disk == ["flush .a.tmp", *before, "rename .a.tmp a", f"flush {tmp_path.name}"]
        assert (tmp_path / "a" / "file").read_bytes() == content
        assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_all_of_a_cached_data_set_is_flushed_before_it_gets_its_name(tmp_path: Path, disk: Disk) -> None:
    load("digits", tmp_path)
    key = parse("digits", None, None).key
    assert [step for step in disk if f"{key}.json" not in step] == [
        *(f"flush {name}.npy" for name in ("train_images", "test_images", "train_labels", "test_labels")),
        *("flush .meta.json.tmp", "rename .meta.json.tmp meta.json"),
        *(f"flush .{key}.tmp", f"rename .{key}.tmp {key}", "flush data"),
    ]


def test_all_of_an_artifact_is_flushed_before_it_gets_its_name(
    tmp_path: Path, disk: Disk, make: Callable[..., Manifest]
) -> None:
    draft = make("report")
    with Store(tmp_path).workspace("report", "demo", draft.id) as work:
        save_report(work.path, Report("x@0", (ROW,)))
        work.log({"round": 1})
        disk.clear()
        work.publish(draft)
    partial = f".{draft.id}.partial"
    assert disk == [
        *("flush events.jsonl", "flush report.json"),
        *("flush .manifest.json.tmp", "rename .manifest.json.tmp manifest.json"),
        *(f"flush {partial}", f"rename {partial} {draft.id}", "flush demo"),
    ]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_cannot_flush_a_folder_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    files.sync(tmp_path)
    number = errno.EIO
    with pytest.raises(StoreError, match="Input/output error"):
        files.sync(tmp_path)


# --- links


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a file; what is done to a link to it must not reach it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("kept")
    return folder


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path, elsewhere: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "link").symlink_to(elsewhere)
    for name, target in (("folder", elsewhere), ("file", elsewhere / "file"), ("dangling", tmp_path / "nowhere")):
        link = tmp_path / name
        link.symlink_to(target)
        files.remove_tree(link)
        assert not link.is_symlink()
    files.remove_tree(tree)
    assert sorted(tmp_path.rglob("*")) == [elsewhere, elsewhere / "file"]


def test_a_linked_leftover_is_swept_and_what_it_leads_to_stays(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / ".a.0a1b2c3d.tmp").symlink_to(elsewhere)
    (tmp_path / ".a.4e5f6a7b.tmp").mkdir()
    others = [tmp_path / ".ab.0a1b2c3d.tmp", tmp_path / "a"]
    for other in others:
        other.mkdir()
    files.sweep(tmp_path, "a")
    assert sorted(tmp_path.rglob("*")) == [*others, elsewhere, elsewhere / "file"]


def test_links_and_files_are_no_subfolders(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("x")
    assert files.subfolders(tmp_path) == [tmp_path / "a", tmp_path / "b", elsewhere]
    assert files.subfolders(tmp_path / "nowhere") == []


def test_a_link_to_a_file_has_no_size(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "link").symlink_to(elsewhere / "file")
    assert files.regular_size(elsewhere / "file") == 4
    assert files.regular_size(tmp_path / "link") is None
    assert files.regular_size(elsewhere) is None
    assert files.regular_size(tmp_path / "\0") is None


# --- what goes wrong


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    for way in (files.atomic, files.atomic_folder):
        path = tmp_path / way.__name__
        with pytest.raises(RuntimeError), way(path):
            raise RuntimeError
        assert not path.exists()
    (tmp_path / "atomic_folder" / "inner").mkdir(parents=True)
    (tmp_path / "atomic").write_text("old")
    for way in (files.atomic, files.atomic_folder):
        with pytest.raises(RuntimeError), way(tmp_path / way.__name__):
            raise RuntimeError
    names = ["atomic", "atomic_folder", "atomic_folder/inner"]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / name for name in names]


def test_no_descriptor_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    (tmp_path / "a").write_text("1")
    before = opened()
    files.sync(tmp_path)
    assert files.read_bounded(tmp_path / "a", 1) == b"1"
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError):
            files.read_bounded(path, 1)
    assert opened() == before


def test_a_file_that_grows_beyond_its_bound_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fstat, looks = tmp_path / "a", os.fstat, list[int]()
    path.write_bytes(b"12345")
    assert files.read_bounded(path, 5) == b"12345"

    def before_it_grows(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        looks.append(status.st_size)
        if len(looks) == 2:
            path.write_bytes(b"123456")
        return status

    monkeypatch.setattr(os, "fstat", before_it_grows)
    with pytest.raises(ArtifactError, match="larger than 5 bytes"):
        files.read_bounded(path, 5)
    assert looks == [5, 5]


@pytest.mark.parametrize(("failures", "made"), [(0, True), (19, True), (20, False)])
def test_a_folder_is_made_though_others_remove_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, made: bool
) -> None:
    mkdir, tries = Path.mkdir, list[Path]()

    def removed_meanwhile(path: Path, **how: Any) -> None:
        tries.append(path)
        if len(tries) <= failures:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        mkdir(path, **how)

    path = tmp_path / "a"
    monkeypatch.setattr(Path, "mkdir", removed_meanwhile)
    if made:
        files.make_folder(path)
    else:
        with pytest.raises(StoreError, match=f"cannot make {path}: No such file"):
            files.make_folder(path)
    assert path.is_dir() is made
    assert len(tries) == min(failures + 1, 20)


def test_a_folder_is_made_with_its_parents_once(tmp_path: Path) -> None:
    for _ in range(2):
        files.make_folder(tmp_path / "a" / "b")
    assert files.is_folder(tmp_path / "a" / "b") is True
    for nothing in (tmp_path / "b", Path("a\0"), Path("x" * 5000)):
        assert files.is_folder(nothing) is False
    with pytest.raises(StoreError, match="cannot make"):
        files.make_folder(Path("/dev/null/a"))


def test_only_ordinary_files_are_opened(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 108 bytes
    (tmp_path / "link").symlink_to(elsewhere / "file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("socket")
        for path in (tmp_path / "link", tmp_path / "pipe", tmp_path / "socket", elsewhere, Path("/dev/null")):
            with pytest.raises(ArtifactError, match=f"^{path} is not an ordinary file$") as caught:
                files.read_bounded(path, 10)
            assert caught.value.hint
    with pytest.raises(ArtifactError, match="nowhere is missing"):
        files.read_bounded(tmp_path / "nowhere", 10)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match=f"cannot read {tmp_path}/a: permission denied"):
        files.sha256_of(tmp_path / "a")


def test_what_may_not_be_looked_at_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(StoreError, match=f"cannot read {tmp_path}: permission denied"):
        files.is_folder(tmp_path)


def test_what_another_process_removes_meanwhile_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    rmtree = shutil.rmtree

    def half(path: Path, **how: Any) -> None:
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(shutil, "rmtree", half)
    files.remove_tree(tmp_path / "a")
    files.remove_tree(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match=f"cannot remove {tmp_path}: permission denied"):
        files.remove_tree(tmp_path)


def test_only_empty_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").touch()
    files.remove_empty(tmp_path / "nowhere", tmp_path / "c", tmp_path / "a" / "b", tmp_path / "a")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "c", tmp_path / "c" / "file"]


@pytest.mark.parametrize(
    ("free", "text"),
    [(999, "999 bytes"), (1000, "1 kB"), (2_500_000, "2 MB"), (7 * 10**9, "7 GB"), (2_500 * 10**9, "2.5 TB")],
)
def test_the_room_on_a_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, text: str) -> None:
    asked = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    files.require_space(tmp_path / "a" / "b", free)
    with pytest.raises(StoreError, match=f"the disk of {tmp_path}/a has {text} free, .* are needed"):
        files.require_space(tmp_path / "a", free + 1)
    assert asked == [tmp_path, tmp_path]


def test_the_store_is_the_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("APMCTL_HOME", "~/store")
    assert files.user_store() == tmp_path / "store"
    monkeypatch.setenv("APMCTL_HOME", "")
    assert files.user_store() == tmp_path / "data" / "apmctl"
