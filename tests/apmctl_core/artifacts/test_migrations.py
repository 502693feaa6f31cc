"""Manifests of schema 1: read as the newest, under the id that they were written with, with all that it vouched for."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from apmctl_core.artifacts import Manifest, Store, manifest
from apmctl_core.artifacts.migrations import MIGRATIONS
from apmctl_core.config import SCHEMA_VERSION, digest
from apmctl_core.errors import ArtifactError

FIXTURES = Path(__file__).parents[2] / "fixtures"
STUDENT = {"epochs": 250, "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "batch": 256}
DISTILL = {
    "ipc": 1,
    "rounds": 3,
    "committee": "single",
    **{f"student_{name}": value for name, value in STUDENT.items()},
}
RECIPE: dict[str, Any] = {
    "data": {"dataset": "digits", "preprocessing": "standard"},
    "model": {"arch": "convnet1", "width": 4},
    "teachers": {"count": 1, "lr": 0.05},
    "distill": DISTILL,
    "evaluate": {"epochs": 5, "arch": []},
    "seed": 0,
    "precision": "fp32",
}
SHARED = {"seed": 0, "precision": "fp32"}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "pool": (
        "pool",
        {**SHARED, "model": RECIPE["model"], "teachers": RECIPE["teachers"], "preprocessing": "standard"},
    ),
    "set": ("set", {**SHARED, "model": RECIPE["model"], "distill": DISTILL, "preprocessing": "standard"}),
    "relabelled": ("set", {**SHARED, "committee": "single"}),
    "report": ("report", {**SHARED, "evaluate": {"epochs": 5, "arch": ["convnet1"]}, "width": 4}),
}
FILES = {
    "pool": ["teacher-000.safetensors", "preprocessing.safetensors"],
    "set": ["set.safetensors", "preprocessing.safetensors"],
    "report": ["report.json"],
}
REPORT = b'{"set": "", "results": []}'


def written(which: str) -> dict[str, Any]:
    """A manifest as schema 1 had it."""
    kind, config = copy.deepcopy(CONFIGS[which])
    inputs = {"data": "f" * 16}
    return {
        "schema": 1,
        "kind": kind,
        "id": digest(kind, config, inputs, 1),
        "name": "demo",
        "recipe": copy.deepcopy(RECIPE),
        "config": config,
        "inputs": inputs,
        "data": {"dataset": "digits", "fingerprint": "f" * 16, "classes": ["a", "b"], "shape": [1, 8, 8]},
        "files": {name: {"sha256": hashlib.sha256(REPORT).hexdigest(), "size": len(REPORT)} for name in FILES[kind]},
        "metrics": {},
        "environment": {},
    }


def loads(values: dict[str, Any]) -> Manifest:
    return manifest.loads(json.dumps(values).encode(), "it")


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The same with the id that its config asks for."""
    return values | {"id": digest(values["kind"], values["config"], values["inputs"], 1)}


@pytest.mark.parametrize("which", CONFIGS)
def test_an_honest_manifest_keeps_its_id_and_gets_the_newest_shape(which: str) -> None:
    values = written(which)
    migrated = loads(values)
    assert (migrated.id, migrated.schema) == (values["id"], SCHEMA_VERSION)
    assert migrated.recipe["distill"] == {
        "method": "apm", "ipc": 1, "rounds": 3, "committee": "single", "student": STUDENT
    }  # fmt: skip
    assert migrated.recipe["evaluate"]["protocol"] == "apm"
    assert manifest.contradiction(migrated.config, migrated.recipe) is None


def test_the_ids_of_schema_1_are_what_they_were() -> None:
    """Computed by the version before schema 2: written artifacts are found by these for ever."""
    assert {which: written(which)["id"] for which in CONFIGS} == {
        "pool": "1917bb7efb9c",
        "set": "2bf3ddaadb33",
        "relabelled": "76bd94349541",
        "report": "97982a9dfcc3",
    }


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("*/*/*/*/manifest.json")), ids=lambda p: str(p.relative_to(FIXTURES))
)
def test_the_ids_of_every_release_are_what_they_were(path: Path) -> None:
    written = json.loads(path.read_bytes())
    assert written["id"] == digest(written["kind"], written["config"], written["inputs"], written["schema"])
    assert written["schema"] == 1 or written["id"] == digest(written["kind"], written["config"], written["inputs"])
    assert manifest.read(path.parent).id == path.parent.name


def test_config_becomes_a_sub_tree_of_the_recipe() -> None:
    assert loads(written("pool")).config == {
        **SHARED, "model": RECIPE["model"], "teachers": RECIPE["teachers"], "data": {"preprocessing": "standard"}
    }  # fmt: skip
    assert loads(written("relabelled")).config == {**SHARED, "distill": {"committee": "single"}}
    report = loads(written("report"))
    assert report.config == {
        **SHARED, "evaluate": {"protocol": "apm", "epochs": 5, "arch": ["convnet1"]}, "model": {"width": 4}
    }  # fmt: skip


@pytest.mark.parametrize("asked", [None, [], ["auto"], ["convnet1"], ["auto", "convnet1"]])
def test_a_report_has_the_networks_that_were_trained(asked: list[str] | None) -> None:
    values = written("report")
    values["recipe"]["evaluate"] |= {"arch": asked} if asked is not None else {}
    assert loads(values).recipe["evaluate"]["arch"] == ["convnet1"]


@pytest.mark.parametrize(
    ("which", "path", "value"),
    [
        ("pool", "model.arch", "convnet2"),
        ("pool", "model.depth", 3),
        ("pool", "teachers.lr", 1.0),
        ("pool", "data.preprocessing", "zca"),
        ("set", "distill.rounds", 7),
        ("set", "distill.student_lr", 7.0),
        ("set", "distill.image_decay", 7.0),
        ("set", "distill.committee", "mean"),
        ("set", "seed", 7),
        ("set", "precision", "bf16"),
        ("relabelled", "distill.committee", "mean"),
        ("report", "model.width", 8),
        ("report", "evaluate.arch", ["convnet2"]),
        ("report", "evaluate.epochs", 1000),
    ],
)
def test_a_recipe_that_the_id_does_not_vouch_for_is_refused(which: str, path: str, value: Any) -> None:
    values = written(which)
    table, _, key = path.rpartition(".")
    (values["recipe"][table] if table else values["recipe"])[key] = value
    with pytest.raises(ArtifactError, match="differ in"):
        loads(values)


def test_a_config_that_says_two_things_is_refused() -> None:
    values = written("set")
    values["config"]["data"] = {"preprocessing": "zca"}
    with pytest.raises(ArtifactError, match=r"two values of data\.preprocessing"):
        loads(renamed(values))


def test_an_id_that_does_not_fit_is_refused_before_the_migration() -> None:
    values = written("set")
    values["config"]["seed"] = 9
    with pytest.raises(ArtifactError, match="not the digest"):
        loads(values)


@pytest.mark.parametrize("which", CONFIGS)
@pytest.mark.parametrize("where", ["recipe", "config"])
def test_any_value_anywhere_is_refused_or_read_never_a_crash(which: str, where: str) -> None:
    strange: list[Any] = [None, True, 5, "x", [], [[]], {}, {"a": {}}, {"arch": [{}]}, {"preprocessing": []}]
    tables = ["", "data", "model", "teachers", "distill", "evaluate", "preprocessing", "committee", "width"]
    for value in strange:
        for table in tables:
            values = written(which)
            if table:
                values[where][table] = value
            else:
                values[where] = value
            if isinstance(values["config"], dict):
                values = renamed(values)
            try:
                loads(values)
            except ArtifactError as e:
                assert e.message.startswith("it: ")


def test_every_older_schema_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_a_store_finds_an_artifact_of_schema_1(store: Store) -> None:
    values = written("report")
    folder = store.root / "reports" / "demo" / values["id"]
    folder.mkdir(parents=True)
    (folder / "report.json").write_bytes(REPORT)
    (folder / "manifest.json").write_text(json.dumps(values))
    assert store.find("demo").manifest == loads(values)
    assert store.get("report", values["id"]) is not None


def test_an_artifact_of_schema_1_is_published_as_it_was_written(store: Store) -> None:
    values = written("report")
    document = json.dumps(values).encode()
    with store.workspace("report", "demo", values["id"]) as work:
        work.write("report.json", REPORT)
        artifact = work.publish(loads(values), document)
    assert (artifact.path / "manifest.json").read_bytes() == document
    assert store.find("demo").id == values["id"]


def test_teachers_had_the_seed_of_everything() -> None:
    older = {"recipe": {"teachers": {"count": 2}, "seed": 5}, "config": {"seed": 5}}
    assert MIGRATIONS[2](older)["recipe"] == {"teachers": {"count": 2, "seed": 5}, "seed": 5}
    assert MIGRATIONS[2]({"recipe": {"seed": 5}})["recipe"] == {"seed": 5}
