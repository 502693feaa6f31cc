"""What a pull checks, each check alone: what another one would notice later is noticed at once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.hub.client import Client
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import push
from apmctl_core.network.references import parse
from apmctl_core.storage import files
from tests.drafts import sealed

from .attempts import fails, nothing_of, tamper
from .conftest import LocalHub, Said
from .samples import put_pool, put_set, tree_of


def fetched(hub: LocalHub) -> list[str]:
    """The names of the files that were asked for."""
    return [request.rpartition("/")[2] for request in hub.requests() if "/resolve/" in request]


def planned(hub: LocalHub, store: Store, repo: str) -> Path:
    """The folder, made, that a pull of a repository will use."""
    commit = hub.repository(repo).resolve("main")
    folder = store.cache / "hub" / "pull" / repo.replace("/", "--") / str(commit)
    folder.mkdir(parents=True)
    return folder


def test_a_file_is_hashed_when_it_arrives(hub: LocalHub, published: str, other: Store) -> None:
    hub.fail({"match": r"GET .*/baseline\.safetensors", "do": "flip"})
    fails(3, r"^baseline\.safetensors .* sha256 differs", lambda: pull(other, parse(published)))
    assert fetched(hub) == ["manifest.json", "baseline.safetensors"]


def test_a_manifest_that_is_listed_as_too_long_is_not_fetched(hub: LocalHub, published: str, other: Store) -> None:
    hub.repository(published).commit("main", None, "bad", {"manifest.json": b" " * ((4 << 20) + 1)}, ())
    fails(3, "is larger than 4194304 bytes", lambda: pull(other, parse(published)))
    assert fetched(hub) == []


def test_a_file_that_is_listed_with_another_size_is_not_fetched(hub: LocalHub, published: str, other: Store) -> None:
    tamper(hub, published, lambda _: None, **{"set.safetensors": b"short"})
    fails(3, r"set\.safetensors .* has 5 bytes, not \d+ as", lambda: pull(other, parse(published)))
    assert fetched(hub) == ["manifest.json"]


@pytest.mark.parametrize("kept", ["set.safetensors", ".set.safetensors.tmp"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_lies_in_the_folder_of_a_download_is_not_trusted(
    hub: LocalHub, published: str, store: Store, other: Store, tmp_path: Path, kept: str, linked: bool
) -> None:
    (made,) = store.list("set")
    path, size = planned(hub, other, published) / kept, made.manifest.files["set.safetensors"].size
    target = tmp_path / "mine"
    target.write_bytes(b"x" * size)
    path.symlink_to(target) if linked else shutil.copy(target, path)
    if kept.endswith(".tmp") and not linked:  # it has the right length, and is found out
        fails(3, "sha256 differs", lambda: pull(other, parse(published)))
    pulled = pull(other, parse(published)).artifact
    assert pulled.file("set.safetensors").read_bytes() == made.file("set.safetensors").read_bytes()
    assert not any(p.is_symlink() for p in pulled.path.iterdir())
    assert target.read_bytes() == b"x" * size


def test_whole_files_of_an_earlier_download_are_kept_and_longer_ones_fetched_again(
    hub: LocalHub, published: str, store: Store, other: Store
) -> None:
    (made,) = store.list("set")
    folder = planned(hub, other, published)
    shutil.copy(made.file("set.safetensors"), folder)
    (folder / ".preview.png.tmp").write_bytes(b"x" * 100_000)
    pulled = pull(other, parse(published))
    assert "set.safetensors" not in fetched(hub)
    asked = {name: made.manifest.files[name].size for name in fetched(hub) if name in made.manifest.files}
    assert "preview.png" in asked
    assert pulled.downloaded_bytes == sum(asked.values()) + (made.path / "manifest.json").stat().st_size


def test_the_rest_of_a_file_is_as_long_as_what_was_missing(
    hub: LocalHub, published: str, store: Store, other: Store
) -> None:
    size = store.list("set")[0].manifest.files["set.safetensors"].size
    partial = planned(hub, other, published) / ".set.safetensors.tmp"
    partial.write_bytes(b"x" * 1000)
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "endless", "code": 206, "bytes": size - 999})
    fails(4, f"is longer than {size - 1000:,} bytes", lambda: pull(other, parse(published)))
    assert not partial.exists()


def test_room_is_needed_for_what_is_missing_alone(
    hub: LocalHub, published: str, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = store.list("set")
    shutil.copy(made.file("set.safetensors"), planned(hub, other, published))
    needed: list[tuple[Path, int]] = []
    monkeypatch.setattr(files, "require_space", lambda root, count: needed.append((root, count)))
    pull(other, parse(published))
    assert needed == [(other.root, sum(f.size for n, f in made.manifest.files.items() if n != "set.safetensors"))]


def test_a_branch_is_asked_for_each_time_and_a_commit_once(
    hub: LocalHub, store: Store, other: Store, name: str
) -> None:
    first, second = put_set(store), put_set(store, "digits-ipc2", salt=1)
    before = push(store, first, name).commit
    assert pull(other, parse(name)).artifact.id == first.id
    push(store, second, name)
    assert pull(other, parse(name)).artifact.id == second.id
    hub.forget()
    assert pull(other, parse(name, before)).artifact.id == first.id
    assert hub.requests() == []


def test_a_pool_in_a_data_set_repository_is_refused(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    push(store, put_pool(store), name)
    shutil.copytree(hub.repository(name, "models").path, hub.repository(name).path)
    hub.forget()
    for kind in ("set", None):
        fails(3, "holds a pool, not a set", lambda kind=kind: pull(other, parse(name), kind=kind))  # type: ignore[misc]
    assert set(fetched(hub)) == {"manifest.json"}
    assert nothing_of(other)


def test_of_two_repositories_of_a_name_the_one_with_an_artifact_is_pulled(
    hub: LocalHub, store: Store, other: Store, name: str
) -> None:
    pool = put_pool(store)
    push(store, pool, name)
    hub.repository(name).make(private=False)
    assert pull(other, parse(name)).artifact.id == pool.id


def test_a_pool_is_verified_before_it_appears(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_pool(store)
    push(store, made, name)
    data = bytearray(made.file("teacher-000.safetensors").read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"  # not a number
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    repository = hub.repository(name, "models")
    manifest = json.loads(repository.git("show", "main:manifest.json"))
    manifest["files"]["teacher-000.safetensors"] = entry
    changed = {"manifest.json": json.dumps(sealed(manifest)).encode(), "teacher-000.safetensors": bytes(data)}
    repository.commit("main", None, "tampered", changed, ())
    fails(3, "not finite", lambda: pull(other, parse(name)))
    assert tree_of(other) == []


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "code", "attempts"),
    [
        ("GET /api/datasets", 503, 3),
        ("GET /api/datasets", 408, 3),
        ("GET /api/datasets", 404, 1),
        ("GET /api/datasets", 429, 1),
        (r"GET .*/manifest\.json", 404, 1),
        (r"GET .*/set\.safetensors", 404, 1),
        (r"GET .*/set\.safetensors", 500, 3),
    ],
)
def test_only_what_may_pass_is_tried_again_and_three_times_at_most(
    hub: LocalHub, published: str, other: Store, said: Said, match: str, code: int, attempts: int
) -> None:
    hub.fail({"match": match, "do": "status", "code": code})
    fails(4, "Hub", lambda: pull(other, parse(published), kind="set", emit=said))
    assert len([request for request in hub.requests() if re.search(match, request)]) == attempts
    waits = ["retrying in 1 s", "retrying in 2 s"][: attempts - 1]
    assert [note.rpartition("; ")[2] for note in said.notes] == waits


def test_what_was_removed_is_pulled_again(
    hub: LocalHub, published: str, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    first = pull(other, parse(published))
    other.remove(first.artifact)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        fails(4, "is not on this machine", lambda: pull(other, parse(published)))
    again = pull(other, parse(published, first.commit))
    assert not again.reused
    assert again.artifact.id == first.artifact.id


def test_offline_mode_is_no_failure_that_is_tried_again(
    hub: LocalHub, published: str, store: Store, other: Store, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(Client, "call", lambda *_: pytest.fail("the Hub's client is used"))
    fails(4, f"hf:{published} is not on this machine", lambda: pull(other, parse(published), emit=said))
    fails(4, "cannot be written to in offline mode", lambda: push(store, put_set(store), published, emit=said))
    assert said.notes == []
