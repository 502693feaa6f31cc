"""Push and pull: the same artifact on both sides, and nothing sent or fetched twice."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from apmctl_core.artifacts import Artifact, Store, open_artifact
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.artifacts.verify import verify
from apmctl_core.config import digest
from apmctl_core.errors import ConfigError, MismatchError
from apmctl_core.formats.set_parquet import pixels
from apmctl_core.hub import origins
from apmctl_core.hub.find import find, on_hub
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import Options, push
from apmctl_core.models import state_shapes
from apmctl_core.network.references import Reference, parse

from .conftest import LocalHub, Said
from .samples import put_pool, put_report, put_set, tree_of, values, whitening


def bytes_of(artifact: Artifact) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in artifact.path.iterdir()}


def test_a_set_comes_back_as_it_was(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_set(store)
    pushed = push(store, made, name)
    assert (pushed.type, pushed.url) == ("dataset", f"{hub.url}/datasets/{name}")
    pulled = pull(other, parse(name))
    assert pulled.commit == pushed.commit
    assert not pulled.reused
    assert bytes_of(pulled.artifact) == bytes_of(made)
    assert verify(pulled.artifact, state_shapes) == []
    assert tree_of(other) == [f"sets/{made.name}/{made.id}/{file}" for file in sorted(bytes_of(made))]


@pytest.mark.parametrize("schema", [1, 2])
def test_a_set_of_an_older_schema_comes_back_as_it_was(
    hub: LocalHub, store: Store, other: Store, name: str, schema: int
) -> None:
    made = put_set(store)
    values = json.loads((made.path / "manifest.json").read_bytes())
    del values["digest"]
    if schema == 1:
        for tables in (values["recipe"], values["config"]):
            tables["distill"] |= {f"student_{key}": value for key, value in tables["distill"].pop("student").items()}
            del tables["distill"]["method"]
        del values["recipe"]["evaluate"]["protocol"]
    values |= {"schema": schema, "id": digest("set", values["config"], values["inputs"], schema)}
    (made.path / "manifest.json").write_text(json.dumps(values))
    older = open_artifact(made.path.rename(made.path.with_name(values["id"])))
    push(store, older, name)
    pulled = pull(other, parse(name)).artifact
    assert (pulled.id, pulled.manifest) == (values["id"], older.manifest)
    assert bytes_of(pulled) == bytes_of(older)
    assert other.find(values["id"]).manifest == older.manifest


def test_a_pool_goes_to_a_model_repository(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_pool(store)
    pushed = push(store, made, name)
    assert (pushed.type, pushed.url) == ("model", f"{hub.url}/{name}")
    assert bytes_of(pull(other, parse(name)).artifact) == bytes_of(made)
    assert hub.repository(name, "models").resolve("main")


def test_a_repository_has_the_files_of_the_manifest_a_card_and_parquet(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    push(store, made, name)
    files = {entry.path for entry in hub.repository(name).entries("main")}
    parquet = "data/train-00000-of-00001.parquet"
    assert files == {*made.manifest.files, "manifest.json", "README.md", parquet, ".gitattributes"}
    hub.repository(name).git("fsck", "--strict")


def test_stray_files_dot_files_and_links_stay_at_home(hub: LocalHub, store: Store, name: str, tmp_path: Path) -> None:
    made = put_set(store)
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cret")
    (made.path / ".env").write_text("HF_TOKEN=hf_x")
    (made.path / "notes.txt").write_text("mine")
    (made.path / "set.safetensors.tmp").write_bytes(b"half")
    (made.path / "link.txt").symlink_to(secret)
    (made.path / "folder").mkdir()
    (made.path / "folder" / "deep.txt").write_text("deep")
    push(store, made, name)
    repository = hub.repository(name)
    assert {e.path for e in repository.entries("main")} == {
        *made.manifest.files, "manifest.json", "README.md", "data/train-00000-of-00001.parquet", ".gitattributes"
    }  # fmt: skip
    stored = [p.name for p in repository.objects.rglob("*") if p.is_file()]
    assert len(stored) == len([e for e in repository.entries("main") if e.lfs])


def test_a_file_that_is_replaced_by_a_link_is_refused(hub: LocalHub, store: Store, name: str, tmp_path: Path) -> None:
    made = put_set(store)
    moved = tmp_path / "elsewhere"
    (made.path / "set.safetensors").rename(moved)
    (made.path / "set.safetensors").symlink_to(moved)
    hub.forget()
    with pytest.raises(Exception, match="not an ordinary file"):
        push(store, made, name)
    assert not any(request.startswith(("PUT", "POST")) for request in hub.requests())


def test_pushing_again_sends_nothing(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    first = push(store, made, name)
    hub.forget()
    second = push(store, made, name)
    assert (second.commit, second.uploaded, second.sent_bytes) == (first.commit, (), 0)
    assert second.unchanged == len(first.uploaded)
    assert {request.split()[0] for request in hub.requests()} == {"GET"}


def test_a_new_report_changes_the_card_alone(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    push(store, made, name)
    put_report(store, made)
    assert push(store, made, name).uploaded == ("README.md",)
    text = hub.repository(name).git("show", "main:README.md").decode()
    assert "84.1 [68.5, 99.7]" in text
    assert "70.0 [44.6, 95.4]" in text
    assert "epochs 300" in text


def test_a_card_has_the_reports_on_its_own_set_alone(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    put_report(store, put_set(store, "other", salt=1))
    push(store, made, name)
    text = hub.repository(name).git("show", "main:README.md").decode()
    assert "Not measured yet" in text
    assert "84.1" not in text


def test_a_license_that_was_given_once_stays(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    push(store, made, name, Options(license="cc-by-4.0"))
    assert push(store, made, name).uploaded == ()
    assert push(store, made, name, Options(license="mit")).uploaded == ("README.md",)
    assert "license: mit" in hub.repository(name).git("show", "main:README.md").decode()


def test_another_set_takes_the_place_of_the_one_before(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    first, second = put_set(store), put_set(store, "digits-ipc2", salt=1, per_class=2)
    tagged = push(store, first, name, Options(tag="v1"))
    repository = hub.repository(name)
    repository.commit("main", None, "a stray of ours, a note of theirs",
                      {"data/train-00001-of-00002.parquet": b"x", "NOTES.md": b"theirs"}, ())  # fmt: skip
    pushed = push(store, second, name)
    assert pushed.deleted == ("data/train-00001-of-00002.parquet",)
    assert "NOTES.md" in {entry.path for entry in repository.entries("main")}
    assert pull(other, parse(name)).artifact.id == second.id
    assert pull(other, parse(f"{name}@v1")).artifact.id == first.id
    assert pull(other, parse(name, tagged.commit)).artifact.id == first.id


def test_teachers_that_a_pool_no_longer_has_are_deleted(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    push(store, put_pool(store), name)
    pushed = push(other, put_pool(other, count=1), name)
    assert pushed.deleted == ("teacher-001.safetensors",)
    left = {entry.path for entry in hub.repository(name, "models").entries("main")}
    assert "teacher-001.safetensors" not in left and "teacher-000.safetensors" in left


def test_a_branch_is_made_and_main_left_alone(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    first, second = put_set(store), put_set(store, "digits-ipc2", salt=1)
    before = push(store, first, name).commit
    pushed = push(store, second, name, Options(revision="candidate"))
    assert pushed.commit != before
    assert hub.repository(name).resolve("main") == before
    assert pull(other, parse(name, "candidate")).artifact.id == second.id
    assert pull(other, parse(name)).artifact.id == first.id


def test_a_pull_request_leaves_main_alone_and_can_be_pulled(
    hub: LocalHub, store: Store, other: Store, name: str
) -> None:
    first, second = put_set(store), put_set(store, "digits-ipc2", salt=1)
    before = push(store, first, name).commit
    pushed = push(store, second, name, Options(create_pr=True))
    assert pushed.pull_request
    assert hub.repository(name).resolve("main") == before
    assert pull(other, parse(name, "refs/pr/1")).artifact.id == second.id
    known = origins.lookup(store, name, "main")
    assert known is not None and known[0].id == first.id


def test_what_was_renamed_is_still_what_was_pulled_and_is_pushed_under_its_new_name(
    hub: LocalHub, store: Store, other: Store, name: str
) -> None:
    push(store, put_set(store), name)
    pulled = pull(other, parse(name)).artifact
    renamed = other.rename(pulled, "best")
    again = pull(other, parse(name))
    assert (again.artifact, again.reused) == (renamed, True)
    assert other.list() == [renamed]
    push(other, renamed, name)
    shutil.rmtree(other.root)
    assert pull(other, parse(name)).artifact.ref == f"best@{pulled.id}"


def test_a_tag_stays_where_it_is(hub: LocalHub, store: Store, name: str) -> None:
    first, second = put_set(store), put_set(store, "digits-ipc2", salt=1)
    pushed = push(store, first, name, Options(tag="v1"))
    assert push(store, first, name, Options(tag="v1")).commit == pushed.commit
    with pytest.raises(ConfigError, match="v1"):
        push(store, second, name, Options(tag="v1"))
    assert hub.repository(name).resolve("main") == pushed.commit


def test_private_is_private_and_never_pushes_to_what_is_public(hub: LocalHub, store: Store, name: str) -> None:
    made = put_set(store)
    push(store, made, name, Options(private=True))
    assert hub.repository(name).private
    push(store, made, f"{name}-public")
    with pytest.raises(ConfigError, match="is public"):
        push(store, put_set(store, salt=2), f"{name}-public", Options(private=True))


def test_a_repository_of_something_else_is_not_overwritten(hub: LocalHub, store: Store, name: str) -> None:
    repository = hub.repository(name)
    repository.make(private=False)
    before = repository.commit("main", None, "their data", {"data/train.csv": b"1,2"}, ())
    with pytest.raises(MismatchError, match=r"data/train\.csv"):
        push(store, put_set(store), name)
    assert repository.resolve("main") == before


def test_a_report_is_not_pushed(hub: LocalHub, store: Store, name: str) -> None:
    with pytest.raises(MismatchError, match="neither a set nor a pool"):
        push(store, put_report(store, put_set(store)), name)
    assert hub.requests() == []


def test_what_is_there_is_not_fetched_again(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_set(store)
    pushed = push(store, made, name)
    pull(other, parse(name))
    hub.forget()
    again = pull(other, parse(name))
    assert again.reused
    assert not any("set.safetensors" in request for request in hub.requests())
    hub.forget()
    assert pull(other, parse(name, pushed.commit)).reused
    assert hub.requests() == []


def test_the_store_keeps_its_own_where_the_hub_has_other_values(
    hub: LocalHub, store: Store, other: Store, name: str
) -> None:
    made = put_set(store)
    push(store, made, name)
    with other.workspace("set", made.name, made.id) as work:
        from apmctl_core.artifacts.kinds.sets import save_set

        from .samples import draft_of

        save_set(work.path, values(salt=9))
        mine = work.publish(draft_of("set", made.name))
    before = bytes_of(mine)
    with pytest.raises(MismatchError, match="other values"):
        pull(other, parse(name))
    assert bytes_of(mine) == before
    assert tree_of(other) == [f"sets/{made.name}/{made.id}/{file}" for file in sorted(before)]


@pytest.mark.parametrize("zca", [False, True])
def test_the_pictures_are_those_of_the_set(hub: LocalHub, store: Store, name: str, zca: bool) -> None:
    import pyarrow.parquet as pq
    from PIL import Image

    made = put_set(store, f"digits-{zca}", salt=int(zca) + 5, per_class=3, space=whitening() if zca else None)
    push(store, made, name)
    repository = hub.repository(name)
    (entry,) = [e for e in repository.entries("main") if e.path.endswith(".parquet")]
    table = pq.read_table(repository.content(entry)).to_pylist()
    found = load_set(made)
    expected = pixels(found.images, found.preprocessing)
    for i, row in enumerate(table):
        picture = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert picture.mode == "L"
        assert torch.equal(torch.tensor(list(picture.tobytes())).reshape(8, 8), expected[i, 0])
        assert row["label"] == found.labels[i]
        assert torch.equal(torch.tensor(row["logits"]), found.logits[i])


def test_offline_what_was_pulled_is_there_and_nothing_else(
    hub: LocalHub, store: Store, other: Store, name: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from apmctl_core.errors import NetworkError

    made = put_set(store)
    push(store, made, name, Options(tag="v1"))
    pull(other, parse(name, "v1"))
    hub.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(other, parse(name, "v1"), emit=said).artifact.id == made.id
    assert any("offline" in note for note in said.notes)
    for reference in (parse(name), parse("tester/never")):
        with pytest.raises(NetworkError, match="offline"):
            pull(other, reference)
    with pytest.raises(NetworkError, match="offline"):
        push(store, made, name)
    assert hub.requests() == []


# --- references ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("owner/name", "owner/name", None),
        ("hf:owner/name", "owner/name", None),
        ("hf:owner/name@v1.0", "owner/name", "v1.0"),
        ("hf:o-w/n.a_m@refs/pr/3", "o-w/n.a_m", "refs/pr/3"),
    ],
)
def test_references_are_read(text: str, repo: str, revision: str | None) -> None:
    assert parse(text) == Reference(repo, revision)


@pytest.mark.parametrize(
    "text",
    [f"hf:{repo}" for repo in ("", "n", "a/b/c", "../x", "a/..", "a..b/c", "a/b..c", "a--b/c", "a/b.git", "a b/c")]
    + [f"hf:a/b@{revision}" for revision in ("", "../x", "x/../y", "x//y", "-x")]
    + ["hf:a/" + "b" * 97],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_two_revisions_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="revision"):
        parse("hf:a/b@v1", "v2")


def test_a_path_that_is_here_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    for text in ("sets/demo", "./a/b", "/a/b", "~/a", "demo", "demo@0123", "a/b/c"):
        assert on_hub(text) is None
    assert on_hub("owner/name@v1") == Reference("owner/name", "v1")


def test_find_pulls_what_the_store_lacks(
    hub: LocalHub, store: Store, other: Store, name: str, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = put_set(store)
    push(store, made, name)
    assert find(other, f"hf:{name}", "set").id == made.id
    assert find(other, name, "set", emit=said).id == made.id
    assert any(f"hf:{name}" in note for note in said.notes)
    assert find(other, made.id[:6]).id == made.id


def test_what_is_remembered_of_the_hub_may_be_damaged(hub: LocalHub, store: Store, other: Store, name: str) -> None:
    made = put_set(store)
    push(store, made, name)
    pull(other, parse(name))
    (path,) = (other.cache / "hub" / "origins").iterdir()
    for text in ("{", "[]", json.dumps({"main": [{"commit": 1, "kind": "../..", "id": "x"}]}), "null"):
        path.write_text(text)
        assert pull(other, parse(name)).artifact.id == made.id
