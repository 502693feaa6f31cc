"""Artifacts of every earlier release are read, checked and used as they lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import apmctl_core
from tests.command import Shell

FIXTURES = Path(__file__).parents[1] / "fixtures"
RELEASES = sorted(p.name for p in FIXTURES.iterdir() if (p / "sets").is_dir())
SETS = ["relabelled", "standard", "zca"]
SHORT = ["--repeats", "1", "--epochs", "1", "--labels", "soft"]
TINY = ["--ipc", "1", "--rounds", "2", "--student-epochs", "2", "--checkpoints", "1", "--arch", "convnet2"]
MODEL = ["--width", "4", "--precision", "fp32", "--device", "cpu"]


@pytest.fixture(scope="module", params=RELEASES)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    store = tmp_path_factory.mktemp("older") / "store"
    shutil.copytree(FIXTURES / request.param, store)
    return Shell(store)


def files(shell: Shell) -> dict[Path, bytes]:
    return {p: p.read_bytes() for kind in ("pools", "sets", "reports") for p in (shell.store / kind).rglob("*.*")}


@pytest.fixture(autouse=True)
def nothing_changes(shell: Shell) -> Iterator[None]:
    """What was there keeps its bytes, whatever a test does beside it."""
    before = files(shell)
    yield
    after = files(shell)
    assert {path: after.get(path) for path in before} == before


def test_they_are_listed_shown_and_verified(shell):
    artifacts = shell.json("list")["artifacts"]
    names = {kind: [a["name"] for a in artifacts if a["kind"] == kind] for kind in ("pool", "set", "report")}
    assert names["pool"] == ["digits-convnet2-w4"] * 2
    assert set(names["set"]) >= set(SETS)
    assert set(names["report"]) >= {"standard-eval", "zca-eval"}
    assert shell("list").err == ""
    for artifact in artifacts:
        shown, verified = (shell(verb, artifact["id"], "--json") for verb in ("show", "verify"))
        assert shown.document["artifact"]["id"] == artifact["id"]
        assert verified.code == 0, verified.err
        manifest = json.loads((Path(artifact["path"]) / "manifest.json").read_bytes())
        for answer in (shown, verified):
            assert ("its manifest has no digest" in answer.err) == ("digest" not in manifest)


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_loaded_with_its_values(shell, name):
    loaded = apmctl_core.load(name, store=shell.store)
    stored = load_file(loaded.artifact.path / "set.safetensors")
    assert torch.equal(loaded.images, stored["images"])
    assert torch.equal(loaded.logits, stored["logits"])
    assert loaded.classes == tuple("0123456789")
    assert loaded.preprocess(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_evaluated_beside_its_stored_baseline(shell, name):
    (row,) = shell.json("eval", name, *SHORT)["results"]
    assert len(row["accuracies"]) == 1
    assert 0 <= row["random_accuracy_mean"] <= 1
    assert row["protocol"]["epochs"] == 1


def test_a_set_is_relabelled_by_its_own_pool(shell):
    again = shell.json("relabel", "zca", "--committee", "single", "--name", "relabelled-again")["artifact"]
    old, new = (apmctl_core.load(ref, store=shell.store) for ref in ("zca", again["id"]))
    assert torch.equal(new.images, old.images)
    assert not torch.equal(new.logits, old.logits)


@pytest.mark.parametrize("space", ["standard", "zca"])
def test_a_pool_distils_new_sets(shell, space):
    pool = apmctl_core.load(space, store=shell.store).artifact.manifest.inputs["pool"]
    arguments = ("distill", "digits", *TINY, *MODEL, "--preprocessing", space, "--teachers", pool, "--name", "again")
    made = shell.json(*arguments)["artifact"]
    manifest = apmctl_core.load(made["id"], store=shell.store).artifact.manifest
    assert manifest.inputs["pool"] == pool
    assert shell.json(*arguments)["artifact"] == made | {"reused": True}
    assert len([a for a in shell.json("list")["artifacts"] if a["kind"] == "pool"]) == 2
