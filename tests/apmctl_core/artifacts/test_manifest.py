from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apmctl_core import config
from apmctl_core.artifacts import FileEntry, Manifest, manifest
from apmctl_core.errors import ArtifactError
from tests.drafts import sealed

Make = Callable[..., Manifest]


def complete(draft: Manifest) -> Manifest:
    names = {
        "report": ["report.json"],
        "set": ["set.safetensors", "preprocessing.safetensors", "preview.png"],
        "pool": ["teacher-000.safetensors", "teacher-001.safetensors", "preprocessing.safetensors"],
    }[draft.kind]
    return msgspec.structs.replace(draft, files={name: FileEntry("0" * 64, 5) for name in names})


@pytest.fixture
def values(make: Make) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest.dumps(complete(make("set"))))
    return found


def loads(values: dict[str, Any]) -> Manifest:
    return manifest.loads(json.dumps(values).encode(), "it")


@pytest.mark.parametrize("kind", ["pool", "set", "report"])
def test_roundtrip_gives_an_equal_manifest_and_the_same_bytes(make: Make, kind: str) -> None:
    whole = complete(make(kind))
    data = manifest.dumps(whole)
    found = manifest.loads(data, "it")
    assert msgspec.structs.replace(found, digest=None) == whole
    assert manifest.dumps(manifest.loads(data, "it")) == data


def test_the_id_is_the_digest_of_kind_config_and_inputs(make: Make) -> None:
    made = make("set", config={"seed": 2}, recipe={"seed": 2}, inputs={"data": "f" * 16})
    assert made.id == config.digest("set", {"seed": 2}, {"data": "f" * 16})
    assert made.id != make("pool", config={"seed": 2}).id
    assert made.id != config.digest("set", made.config, made.inputs, 1)


def test_what_is_tested_on_may_be_said(make: Make) -> None:
    made = complete(make("set"))
    assert "split" not in manifest.loads(manifest.dumps(made), "it").data
    said = msgspec.structs.replace(made, data={**made.data, "split": "val/ (30 images)"})
    assert manifest.loads(manifest.dumps(said), "it").data["split"] == "val/ (30 images)"


def test_what_is_read_has_plain_values_only(make: Make) -> None:
    made = manifest.loads(
        manifest.dumps(complete(make("set", metrics={"sizes": (1, 2), "by": {10: 0.5, 9: 1.0}}))), "it"
    )
    assert made.data["shape"] == [1, 4, 4]
    assert made.metrics == {"sizes": [1, 2], "by": {"10": 0.5, "9": 1.0}}
    assert made.shape == (1, 4, 4)
    assert made.classes == ("zero", "one", "two")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_written(make: Make, bad: float) -> None:
    with pytest.raises(ArtifactError, match="not finite"):
        manifest.dumps(complete(make("set", metrics={"loss": bad})))


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "a b", "-x", "a\n", "x" * 101, "a@b", "é", "a\x1b"])
def test_bad_names_are_refused(values: dict[str, Any], name: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be the name"):
        manifest.check_name(name)
    with pytest.raises(ArtifactError):
        loads(values | {"name": name})


@pytest.mark.parametrize("name", ["a", "digits-ipc1", "A.b_c-9", "x" * 100])
def test_good_names_are_taken(values: dict[str, Any], name: str) -> None:
    assert manifest.check_name(name) == name
    assert loads(sealed(values | {"name": name})).name == name


CHANGES: list[tuple[str, Any, str]] = [
    ("schema", None, "schema"),
    ("schema", "1", "schema"),
    ("schema", True, "schema"),
    ("schema", 0, "schema"),
    ("kind", "sets", "kind"),
    ("kind", ["set"], "kind"),
    ("kind", "pool", "digest"),
    ("id", "0" * 12, "the id is not the digest"),
    ("id", 5, "id: Expected"),
    ("id", "0" * 13, "id: Expected"),
    ("name", "../up", "name"),
    ("name", 7, "name"),
    ("config", [], "config"),
    ("config", {"seed": 99}, "digest"),
    ("inputs", {"data": "g"}, "digest"),
    ("inputs", {"data": 5}, "inputs"),
    ("inputs", None, "inputs"),
    ("recipe", None, "recipe"),
    ("metrics", 3, "metrics"),
    ("environment", "x", "environment"),
    ("recipe", {"seed": 99}, "config and recipe differ in"),
    ("recipe.model", {"arch": "convnet1", "width": 8}, r"differ in model\.width"),
    ("recipe.model", 5, r"differ in model\.arch"),
    ("recipe.data", {}, r"differ in data\.preprocessing"),
    ("data", {}, "dataset"),
    ("data.url", "x", "unknown field 'url'"),
    ("data.dataset", "", "dataset"),
    ("data.fingerprint", 5, "fingerprint"),
    ("data.fingerprint", "other", "different data"),
    ("data.classes", [], "classes"),
    ("data.classes", "abc", "classes"),
    ("data.classes", ["a", 3], "classes"),
    ("data.classes", ["a\nb"], "classes"),
    ("data.classes", ["\x1b[2J"], "control"),
    ("data.split", "", "split"),
    ("data.split", 5, "split"),
    ("data.shape", [1, 4], "shape"),
    ("data.shape", [1, 4, 0], "shape"),
    ("data.shape", [1, 4, True], "shape"),
    ("data.shape", [1, 4, 4.0], "shape"),
    ("data.shape", [60000, 60000, 60000], "shape"),
    ("files", [], "files"),
    ("files", {}, "needs set.safetensors"),
    ("files.set.safetensors", {"sha256": "0" * 64}, "files.*size"),
    ("files.set.safetensors", {"sha256": "0" * 63, "size": 1}, "files.*sha256"),
    ("files.set.safetensors", {"sha256": "0" * 64 + "\n", "size": 1}, "files.*sha256"),
    ("files.set.safetensors", {"sha256": "A" * 64, "size": 1}, "files.*sha256"),
    ("files.set.safetensors", {"sha256": "0" * 64, "size": -1}, "files.*size"),
    ("files.set.safetensors", {"sha256": "0" * 64, "size": True}, "files.*size"),
    ("files.set.safetensors", {"sha256": "0" * 64, "size": 2**60}, "files.*size"),
    ("files.set.safetensors", {"sha256": "0" * 64, "size": 1, "mode": 1}, "files.*unknown field 'mode'"),
    ("files.manifest.json", {"sha256": "0" * 64, "size": 1}, "no file"),
    ("files./etc/passwd", {"sha256": "0" * 64, "size": 1}, "no file"),
    ("files.../up", {"sha256": "0" * 64, "size": 1}, "no file"),
    ("files.teacher-000.safetensors", {"sha256": "0" * 64, "size": 1}, "no file"),
    ("extra", 1, "unknown field 'extra'"),
    ("e\nx" * 500, 1, "unknown field"),
]


@pytest.mark.parametrize(("field", "value", "problem"), CHANGES, ids=lambda v: str(v)[:40])
def test_a_changed_field_is_refused(values: dict[str, Any], field: str, value: Any, problem: str) -> None:
    table, _, key = field.partition(".")
    if key:
        values[table][key] = value
    else:
        values[table] = value
    with pytest.raises(ArtifactError, match=problem) as caught:
        loads(values)
    assert caught.value.hint
    assert caught.value.message.startswith("it: ") or "control" in problem
    assert len(caught.value.message) < 300
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("field", Manifest.__struct_fields__)
def test_a_missing_field_is_refused(values: dict[str, Any], field: str) -> None:
    del values[field]
    with pytest.raises(ArtifactError, match=f"it: .*{field}"):
        loads(values)


def test_a_flipped_bit_is_refused_or_changes_nothing(make: Make) -> None:
    data = manifest.dumps(complete(make("report", metrics={"accuracy": 0.25}, environment={"torch": "2.15.0"})))
    whole, harmless = manifest.loads(data, "it"), 0
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            assert manifest.loads(bytes(flipped), "it") == whole
            harmless += 1
        except ArtifactError:
            pass
    assert harmless < 50  # e.g. another space between two fields


@pytest.mark.parametrize("digest", [None, "", "0" * 64, 5])
def test_a_manifest_has_its_own_digest(values: dict[str, Any], digest: Any) -> None:
    with pytest.raises(ArtifactError, match="digest"):
        loads(values | {"digest": digest})
    assert loads(dict(reversed(values.items()))) == loads(values)  # its fields, not its bytes


def test_a_schema_without_digests_has_none(values: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="unknown field 'digest'"):
        loads(values | {"schema": 2})
    del values["digest"]
    assert loads(values | {"schema": 2}).digest is None
    with pytest.raises(ArtifactError, match="digest"):
        loads(values)


def test_a_file_that_is_listed_twice_is_refused(values: dict[str, Any]) -> None:
    text = json.dumps(values)
    entry = '"preview.png": {"sha256": "' + "0" * 64 + '", "size": 5}'
    assert text.count(entry) == 1
    with pytest.raises(ArtifactError, match="a key appears twice"):
        manifest.loads(text.replace(entry, f"{entry}, {entry}").encode(), "it")


def test_a_pool_has_its_teachers_without_a_gap(make: Make) -> None:
    whole = json.loads(manifest.dumps(complete(make("pool"))))
    whole["files"]["teacher-003.safetensors"] = whole["files"].pop("teacher-001.safetensors")
    with pytest.raises(ArtifactError, match="gap"):
        loads(whole)


def test_a_newer_schema_is_refused_by_name_before_anything_else() -> None:
    newer = {"schema": config.SCHEMA_VERSION + 1, "whatever": 1}
    with pytest.raises(ArtifactError, match=f"schema version {config.SCHEMA_VERSION + 1} is newer") as caught:
        loads(newer)
    assert "upgrade" in caught.value.hint


def test_an_older_schema_without_migration_is_refused(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SCHEMA_VERSION", config.SCHEMA_VERSION + 1)
    with pytest.raises(ArtifactError, match="no longer read"):
        loads(values)


def test_a_manifest_that_could_not_be_read_is_not_written(make: Make) -> None:
    with pytest.raises(ArtifactError, match=r"needs report\.json"):
        manifest.dumps(make("report"))
    with pytest.raises(ArtifactError, match="control"):
        manifest.dumps(complete(make("report", environment={"host": "\x1b]0;x\x07"})))


def test_a_huge_manifest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match="larger than"):
        manifest.read(tmp_path)


def test_a_manifest_has_at_most_four_megabytes(values: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(values).encode().ljust(manifest.MAX_BYTES)
    assert manifest.loads(text, "it") == loads(values)
    with pytest.raises(ArtifactError, match="it: larger than 4194304 bytes"):
        manifest.loads(text + b" ", "it")


@pytest.mark.parametrize(
    ("table", "key", "good", "bad"),
    [
        ("data", "dataset", "x" * 4096, "x" * 4097),
        ("data", "classes", ["x" * 1000], ["x" * 1001]),
        ("data", "classes", ["x"] * 100_000, ["x"] * 100_001),
        ("data", "shape", [1, 1, 65536], [1, 1, 65537]),
        ("inputs", "set", "x" * 500, "x" * 501),
        ("inputs", None, {str(i): "" for i in range(10_000)}, {str(i): "" for i in range(10_001)}),
        ("files", "preview.png", *({"sha256": "0" * 64, "size": size} for size in (2**50 - 1, 2**50))),
    ],
)
def test_every_field_has_a_bound(values: dict[str, Any], table: str, key: str | None, good: Any, bad: Any) -> None:
    for value in (good, bad):
        if key is None:
            values[table] = value
        else:
            values[table][key] = value
        values["id"] = config.digest("set", values["config"], values["inputs"])
        if value is good:
            loads(sealed(values))
    with pytest.raises(ArtifactError, match=rf"it: {table}.*: Expected"):
        loads(sealed(values))


def test_an_image_has_at_most_268_million_values(values: dict[str, Any]) -> None:
    values["data"]["shape"] = [1, 1 << 14, 1 << 14]
    assert loads(sealed(values)).shape == (1, 1 << 14, 1 << 14)
    values["data"]["shape"][0] = 2
    with pytest.raises(ArtifactError, match="too large"):
        loads(sealed(values))


def test_a_manifest_must_be_an_ordinary_file(tmp_path: Path) -> None:
    import os

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").symlink_to("/etc/passwd")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "manifest.json")
    (tmp_path / "c" / "manifest.json").mkdir(parents=True)
    for folder in "abc":
        with pytest.raises(ArtifactError, match="not an ordinary file"):
            manifest.read(tmp_path / folder)
    with pytest.raises(ArtifactError, match="missing"):
        manifest.read(tmp_path / "d")
