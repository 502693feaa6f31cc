"""Files and folders: in which order they are flushed and renamed, and that no link is followed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from apmctl_core.artifacts import Manifest, Store
from apmctl_core.artifacts.kinds.reports import Report, save_report
from apmctl_core.data import load
from apmctl_core.data.loading import parse
from apmctl_core.errors import StoreError
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
    (tmp_path / "a").mkdir()
    files.sweep(tmp_path, "a")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", elsewhere, elsewhere / "file"]


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
