"""What can go wrong on the way: each ends in its error, nothing is half-done on either side, and a re-run succeeds."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl.errors import exit_code_of
from apmctl_core.artifacts import Store
from apmctl_core.errors import ApmError, ArtifactError, NetworkError
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import Options, preflight, push
from apmctl_core.network.references import parse
from tests.drafts import sealed

from .conftest import LocalHub, Said
from .samples import put_set, tree_of

SECONDS = 20.0  # with the client's own waits cut short


def fails(code: int, match: str, work: Callable[[], Any]) -> ApmError:
    """Run what must fail, soon, with this exit code, one line and a hint."""
    began = time.monotonic()
    with pytest.raises(ApmError, match=match) as caught:
        work()
    error = caught.value
    assert exit_code_of(error) == code, error.message
    assert time.monotonic() - began < SECONDS
    assert error.message
    assert "\n" not in error.message
    assert error.hint
    assert "hf_writer" not in error.message + error.hint
    return error


def nothing_of(store: Store) -> bool:
    """Whether a store has no artifact and nothing half-made; whole files of a download may wait in its cache."""
    return not store.list() and not store.runs() and not any(n.startswith(("sets", "pools")) for n in tree_of(store))


# --- the way there -------------------------------------------------------------------------------------------------


def test_a_server_killed_in_mid_upload(doomed: LocalHub, store: Store, other: Store, name: str, said: Said) -> None:
    made = put_set(store)
    first = push(store, put_set(store, "before", salt=3), name).commit
    doomed.fail({"match": "PUT /lfs-put", "do": "die", "times": 1})
    fails(4, "cannot be reached", lambda: push(store, made, name, emit=said))
    assert any("etrying" in note for note in said.notes)
    repository = doomed.repository(name)
    assert repository.resolve("main") == first
    repository.git("fsck", "--strict")
    assert not list((store.cache / "hub").glob("push-*"))
    doomed.start()
    push(store, made, name)
    assert pull(other, parse(name)).artifact.id == made.id


def test_an_upload_that_breaks_off_sends_only_what_is_missing_the_next_time(
    hub: LocalHub, store: Store, name: str
) -> None:
    made = put_set(store)
    push(store, put_set(store, "before", salt=3), name)
    before = hub.repository(name).resolve("main")
    hub.fail({"match": r"POST .*/commit/", "do": "status", "code": 503})
    fails(4, "503", lambda: push(store, made, name))
    assert hub.repository(name).resolve("main") == before
    hub.fail()
    hub.forget()
    push(store, made, name)
    assert not any(request.startswith("PUT") for request in hub.requests())
    assert hub.repository(name).resolve("main") != before


def test_a_commit_whose_answer_is_lost_is_found_by_the_next_push(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    hub.fail({"match": "/commit/", "do": "lose", "code": 502, "times": 1})
    fails(4, "502", lambda: push(store, made, name))
    again = push(store, made, name)
    assert again.uploaded == ()
    assert again.commit == hub.repository(name).resolve("main")


@pytest.mark.parametrize(
    "match", [r"/lfs-put", r"GET /api/datasets", r"/preupload", r"/repos/create", r"/lfs/objects/batch"]
)
def test_503s_that_pass_are_waited_for_and_said(hub: LocalHub, store: Store, name: str, said: Said, match: str) -> None:
    hub.fail({"match": match, "do": "status", "code": 503, "times": 2})
    push(store, put_set(store), name, emit=said)
    assert any("503" in note or "etry" in note for note in said.notes)


@pytest.mark.parametrize("match", [r"GET /api/datasets", r"/lfs-put", r"/repos/create"])
def test_503s_that_stay_end_the_push(hub: LocalHub, store: Store, name: str, said: Said, match: str) -> None:
    hub.fail({"match": match, "do": "status", "code": 503})
    fails(4, "503", lambda: push(store, put_set(store), name, emit=said))
    assert said.notes
    repository = hub.repository(name)
    if repository.path.exists():
        assert len(repository.git("log", "--format=%H").splitlines()) == 1


def test_a_server_that_is_not_there(hub: LocalHub, store: Store, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from .conftest import free_port

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    fails(4, "cannot be reached", lambda: pull(store, parse("tester/thing"), emit=said))
    fails(4, "cannot be reached", lambda: push(store, put_set(store), "tester/thing"))
    assert any("retrying" in note for note in said.notes)


def test_a_server_that_says_nothing(
    doomed: LocalHub, store: Store, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    from apmctl_core.hub import client
    from apmctl_core.network import clients

    monkeypatch.setattr(clients, "_STALLED_S", 0.2)
    monkeypatch.setattr(client, "_TIMEOUT_S", 0.2)
    doomed.fail({"match": "GET /api/datasets", "do": "stall"})
    fails(4, "cannot be reached", lambda: pull(store, parse("tester/thing"), emit=said))
    doomed.fail({"match": "whoami", "do": "stall"})
    fails(4, "cannot be reached", lambda: preflight("set", "tester/thing"))


def test_a_branch_that_moved_in_between(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_set(store)
    push(store, put_set(store, "before", salt=3), name)
    hub.fail({"match": "/commit/", "do": "move", "times": 1})
    fails(4, "changed by somebody else", lambda: push(store, made, name))
    repository = hub.repository(name)
    assert repository.git("log", "--format=%s", "-1", "main").decode().strip() == "somebody else"
    push(store, made, name)
    assert "NOTES.md" in {entry.path for entry in repository.entries("main")}
    assert pull(other, parse(name)).artifact.id == made.id


def test_a_commit_that_leaves_something_out_is_not_taken_for_a_push(
    hub: LocalHub, store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    plain = HfApi.create_commit

    def forgetful(self: HfApi, repo: str, operations: list[Any], **options: Any) -> Any:
        kept = [operation for operation in operations if operation.path_in_repo != "preview.png"]
        return plain(self, repo, kept, **options)

    monkeypatch.setattr(HfApi, "create_commit", forgetful)
    fails(3, r"not taken preview\.png", lambda: push(store, put_set(store), name))


# --- the way back --------------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub: LocalHub, store: Store, name: str) -> str:
    """A repository with a set in it, copied from one that was pushed."""
    made, template = put_set(store), hub.repository("tester/template")
    if not template.path.exists():
        push(store, made, "tester/template")
    shutil.copytree(template.path, hub.repository(name).path)
    hub.forget()
    return name


def test_a_server_killed_in_mid_download(doomed: LocalHub, store: Store, other: Store, name: str, said: Said) -> None:
    made = put_set(store)
    push(store, made, name)
    doomed.fail({"match": r"GET .*/set\.safetensors", "do": "die", "times": 1})
    fails(4, "cannot be reached|not as long", lambda: pull(other, parse(name), emit=said))
    assert nothing_of(other)
    doomed.start()
    doomed.forget()
    assert pull(other, parse(name)).artifact.id == made.id
    fetched = [request for request in doomed.requests() if request.startswith("GET") and "/resolve/" in request]
    assert not any("baseline" in request for request in fetched)  # it had arrived before
    assert tree_of(other) == [f"sets/{made.name}/{made.id}/{p.name}" for p in sorted(made.path.iterdir())]


@pytest.mark.parametrize(
    "fault",
    [
        {"match": r"HEAD .*/set\.safetensors", "do": "status", "code": 503, "times": 2},
        {"match": r"GET .*/set\.safetensors", "do": "status", "code": 503, "times": 1},
        {"match": r"GET /api/datasets", "do": "status", "code": 502, "times": 2},
        {"match": r"GET .*/set\.safetensors", "do": "cut", "times": 2},
    ],
)
def test_what_passes_is_waited_for_and_said(
    published: str, hub: LocalHub, other: Store, said: Said, fault: dict[str, Any]
) -> None:
    hub.fail(fault)
    assert pull(other, parse(published), emit=said).artifact.kind == "set"
    assert said.notes


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"match": r"HEAD .*/set\.safetensors", "do": "status", "code": 503}, "503"),
        ({"match": r"GET .*/set\.safetensors", "do": "status", "code": 503}, "503"),
        ({"match": r"GET .*/set\.safetensors", "do": "length"}, "not as long|cannot be reached"),
        ({"match": r"GET .*/set\.safetensors", "do": "short"}, "not as long"),
    ],
)
def test_what_stays_ends_the_pull(
    published: str, hub: LocalHub, other: Store, fault: dict[str, Any], match: str
) -> None:
    hub.fail(fault)
    fails(4, match, lambda: pull(other, parse(published)))
    assert nothing_of(other)
    hub.fail()
    assert pull(other, parse(published)).artifact.kind == "set"


@pytest.mark.parametrize("file", ["set.safetensors", "preview.png", "events.jsonl", "preprocessing.safetensors"])
def test_one_flipped_byte_is_refused_and_leaves_nothing(published: str, hub: LocalHub, other: Store, file: str) -> None:
    hub.fail({"match": rf"GET .*/{file}", "do": "flip"})
    fails(3, file, lambda: pull(other, parse(published)))
    assert tree_of(other) == []
    hub.fail()
    assert pull(other, parse(published)).artifact.kind == "set"


def test_a_manifest_with_a_flipped_byte_is_refused(published: str, hub: LocalHub, other: Store) -> None:
    hub.fail({"match": r"GET .*/manifest\.json", "do": "flip"})
    with pytest.raises((ArtifactError, NetworkError)):
        pull(other, parse(published))
    assert tree_of(other) == []


# --- what should not be there --------------------------------------------------------------------------------------


def tamper(hub: LocalHub, repo: str, change: Callable[[dict[str, Any]], None], **files: bytes | None) -> None:
    """Commit another manifest (and other files) to a repository."""
    repository = hub.repository(repo)
    manifest = json.loads(repository.git("show", "main:manifest.json"))
    change(manifest)
    deleted = tuple(name for name, data in files.items() if data is None)
    added = {name: data for name, data in files.items() if data is not None}
    text = json.dumps(sealed(manifest)).encode()
    repository.commit("main", None, "tampered", {"manifest.json": text} | added, deleted)


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = to

    return change


LIES = {
    "a newer schema": (_set("schema", to=99), "newer"),
    "an id that is not its digest": (_set("id", to="0" * 12), "digest"),
    "another configuration": (_set("config", "seed", to=5), "digest"),
    "another size": (_set("files", "set.safetensors", "size", to=17), "bytes"),
    "another sha256": (_set("files", "set.safetensors", "sha256", to="0" * 64), "sha256"),
    "a path upwards": (_set("files", "../../evil", to={"sha256": "0" * 64, "size": 1}), "no file"),
    "an absolute path": (_set("files", "/tmp/evil", to={"sha256": "0" * 64, "size": 1}), "no file"),
    "a file of another kind": (_set("files", "teacher-000.safetensors", to={"sha256": "0" * 64, "size": 1}), "no file"),
    "a name that is a path": (_set("name", to="../evil"), "name"),
    "other classes": (_set("data", "classes", to=["a", "b"]), "safetensors"),
    "another shape": (_set("data", "shape", to=[3, 8, 8]), "safetensors"),
    "another preprocessing": (_set("recipe", "data", "preprocessing", to="zca"), "kind"),
    "settings that it was not made with": (_set("recipe", "distill", "rounds", to=7), "differ in distill.rounds"),
    "a network that it was not made with": (_set("recipe", "model", "arch", to="convnet2"), "differ in model.arch"),
    "a field too many": (_set("extra", to=1), "unknown field"),
    "no file of the set": (lambda manifest: manifest["files"].pop("set.safetensors"), "needs set"),
    "a text that controls a terminal": (_set("data", "dataset", to="a\x1b[2J"), "control"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused(published: str, hub: LocalHub, other: Store, lie: str) -> None:
    change, match = LIES[lie]
    tamper(hub, published, change)
    error = fails(3, match, lambda: pull(other, parse(published)))
    assert lie != "a newer schema" or "upgrade" in error.hint
    assert tree_of(other) == []


def test_a_manifest_that_is_none_is_refused(published: str, hub: LocalHub, other: Store) -> None:
    for text in (b"", b"{", b"[]", b'{"a": 1, "a": 2}', b"\xff\xfe", b"[" * 5000, b" " * (4 << 20) + b"{}"):
        hub.repository(published).commit("main", None, "bad", {"manifest.json": text}, ())
        fails(3, "manifest", lambda: pull(other, parse(published)))
        assert tree_of(other) == []


def test_values_that_lie_with_a_manifest_that_fits_are_refused(
    published: str, hub: LocalHub, other: Store, store: Store
) -> None:
    (made,) = store.list("set")
    data = bytearray((made.path / "set.safetensors").read_bytes())
    length = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:length])
    begin = length + header["images"]["data_offsets"][0]
    data[begin : begin + 4] = b"\x00\x00\xc0\x7f"  # not a number
    change = _set("files", "set.safetensors", to={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
    tamper(hub, published, change, **{"set.safetensors": bytes(data)})
    fails(3, "not finite", lambda: pull(other, parse(published)))
    assert tree_of(other) == []


def test_a_missing_file_is_named(published: str, hub: LocalHub, other: Store) -> None:
    tamper(hub, published, lambda _: None, **{"set.safetensors": None})
    fails(3, r"lacks set\.safetensors", lambda: pull(other, parse(published)))
    assert tree_of(other) == []


def test_a_file_too_many_is_not_fetched(published: str, hub: LocalHub, other: Store) -> None:
    tamper(hub, published, lambda _: None, **{"evil.pt": b"pickle", ".env": b"x"})
    hub.forget()
    pulled = pull(other, parse(published)).artifact
    assert {p.name for p in pulled.path.iterdir()} == {*pulled.manifest.files, "manifest.json"}
    assert not any("evil" in request or ".env" in request for request in hub.requests())


def test_a_repository_without_an_artifact_is_told_from_one(hub: LocalHub, other: Store, name: str) -> None:
    hub.repository(name).make(private=False)
    fails(3, "no artifact", lambda: pull(other, parse(name)))


def test_a_set_where_a_pool_is_asked_for(published: str, other: Store) -> None:
    fails(4, "no model repository", lambda: pull(other, parse(published), kind="pool"))


# --- credentials ---------------------------------------------------------------------------------------------------


def test_a_bad_token(
    hub: LocalHub, published: str, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    error = fails(4, "refuses access", lambda: push(store, put_set(store), published))
    assert "hf_wrong" not in error.message
    assert "hf auth login" in error.hint
    fails(4, "refuses access", lambda: pull(other, parse(published)))


@pytest.mark.parametrize("token", ["hf_wröng", "hf_wr\nong: x"])
def test_a_token_that_no_header_can_carry(
    hub: LocalHub, store: Store, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    error = fails(4, "tester/x", lambda: push(store, put_set(store), "tester/x"))
    assert not any(part in error.message for part in ("wröng", "wr\nong", "wr ong", "wr\\nong"))


def test_a_token_that_may_only_read(
    hub: LocalHub, published: str, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    before = hub.repository(published).resolve("main")
    fails(4, "may only read", lambda: push(store, put_set(store, salt=4), published))
    assert hub.repository(published).resolve("main") == before
    assert pull(other, parse(published)).artifact.kind == "set"


def test_a_token_that_may_not_write_here(
    hub: LocalHub, published: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail({"match": "/preupload", "do": "status", "code": 403})
    fails(4, "may not", lambda: push(store, put_set(store, salt=4), published))
    hub.fail({"match": "/repos/create", "do": "status", "code": 403})
    fails(4, "may not", lambda: push(store, put_set(store, salt=4), f"{published}-new"))


def test_no_token(hub: LocalHub, store: Store, other: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    push(store, put_set(store), name, Options(private=True))
    monkeypatch.delenv("HF_TOKEN")
    fails(4, "needs a token", lambda: push(store, put_set(store), name))
    error = fails(4, "or it is private", lambda: pull(other, parse(name)))
    assert "hf auth login" in error.hint
    assert nothing_of(other)


def test_a_gated_repository(hub: LocalHub, published: str, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub.repository(published).path / ".git" / "gated").touch()
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    fails(4, "gated", lambda: pull(other, parse(published)))


def test_what_is_not_there(hub: LocalHub, published: str, other: Store) -> None:
    fails(4, "no repository", lambda: pull(other, parse("tester/nothing-like-it")))
    fails(4, "no such revision", lambda: pull(other, parse(published, "v9")))
    assert nothing_of(other)


def test_a_full_disk_is_not_the_networks_fault(
    published: str, other: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import errno

    from huggingface_hub import HfApi

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    plain = HfApi.hf_hub_download
    monkeypatch.setattr(HfApi, "hf_hub_download", full)
    fails(1, "disk is full", lambda: pull(other, parse(published)))
    monkeypatch.setattr(HfApi, "hf_hub_download", plain)
    assert pull(other, parse(published)).artifact.kind == "set"
