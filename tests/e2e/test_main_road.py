"""Distil, reuse, relabel, evaluate: what a user does, through the installed command."""

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import Shell
from tests.e2e.conftest import MODEL, TINY, sha256


def set_file(document):
    return Path(document["artifact"]["path"]) / "set.safetensors"


def test_the_same_command_again_reuses_in_under_three_seconds(made):
    shell, first = made
    assert first["artifact"]["reused"] is False
    times = []
    while not times or (times[-1] >= 3 and len(times) < 3):  # others at work on the machine may slow a start
        began = time.monotonic()
        second = Shell(shell.store, installed=True).json("distill", "digits", *TINY)
        times.append(time.monotonic() - began)
    assert times[-1] < 3
    assert second["artifact"] == first["artifact"] | {"reused": True}


def test_two_stores_and_one_seed_give_the_same_bytes_and_another_seed_others(made, shell):
    _, first = made
    again = shell.json("distill", "digits", *TINY)
    other = shell.json("distill", "digits", *TINY, "--seed", "1")
    assert sha256(set_file(again)) == sha256(set_file(first))
    assert again["artifact"]["id"] == first["artifact"]["id"]
    assert sha256(set_file(other)) != sha256(set_file(first))
    assert other["artifact"]["id"] != first["artifact"]["id"]


@pytest.mark.parametrize("segment", ["3", "7"])
def test_segments_give_the_same_images(made, shell, segment):
    _, whole = made
    cut = shell.json("distill", "digits", *TINY, "--segment", segment)
    assert cut["artifact"]["id"] == whole["artifact"]["id"]
    a, b = load_file(set_file(whole)), load_file(set_file(cut))
    torch.testing.assert_close(a["images"], b["images"], atol=1e-4, rtol=0)


def test_a_set_is_complete_and_self_contained(made):
    _, document = made
    folder = Path(document["artifact"]["path"])
    assert {p.name for p in folder.iterdir()} == {
        "manifest.json",
        "set.safetensors",
        "preprocessing.safetensors",
        "baseline.safetensors",
        "events.jsonl",
        "preview.png",
    }
    tensors = load_file(folder / "set.safetensors")
    assert tensors["images"].shape == (20, 1, 8, 8)
    assert tensors["logits"].shape == (20, 10)
    assert tensors["labels"].tolist() == [k for k in range(10) for _ in range(2)]
    assert tensors["stage"].tolist() == [0] * 20


def test_relabelling_keeps_the_images_changes_the_logits_and_eval_tells_them_apart(made):
    shell, first = made
    pool = shell.json("teachers", "digits", "--count", "1", "--epochs", "2", "--seed", "5", *MODEL)
    again = shell.json("relabel", first["artifact"]["id"], "--teachers", pool["artifact"]["id"])
    a, b = load_file(set_file(first)), load_file(set_file(again))
    assert torch.equal(a["images"], b["images"])
    assert not torch.equal(a["logits"], b["logits"])
    assert again["artifact"]["id"] != first["artifact"]["id"]
    short = ["--epochs", "3", "--repeats", "2", "--labels", "soft"]
    reports = [shell.json("eval", d["artifact"]["id"], *short) for d in (first, again)]
    assert reports[0]["results"] != reports[1]["results"]
    assert reports[0]["artifact"]["id"] != reports[1]["artifact"]["id"]
    # Each measures its own set, and the random images beside it carry the labels of the same teachers.
    assert reports[0]["results"][0]["random_accuracies"] != reports[1]["results"][0]["random_accuracies"]


def test_eval_reports_both_kinds_of_labels_beside_random_and_is_reused(made):
    shell, first = made
    arguments = ("eval", first["artifact"]["id"], "--epochs", "2", "--repeats", "2")
    report = shell.json(*arguments)
    assert [(r["arch"], r["labels"]) for r in report["results"]] == [("convnet2", "soft"), ("convnet2", "hard")]
    for row in report["results"]:
        assert len(row["accuracies"]) == 2
        assert 0 <= row["random_accuracy_mean"] <= 1
        assert row["protocol"]["epochs"] == 2
    assert shell.json(*arguments)["results"] == report["results"]


def test_eval_trains_the_architectures_that_are_named(made):
    shell, first = made
    report = shell.json(
        "eval", first["artifact"]["id"], "--epochs", "1", "--repeats", "1", "--labels", "hard",
        "--arch", "convnet1", "--arch", "convnet3",
    )  # fmt: skip
    assert [row["arch"] for row in report["results"]] == ["convnet1", "convnet3"]


def test_eval_takes_auto_for_the_network_of_the_set(made):
    shell, first = made
    arguments = ("eval", first["artifact"]["id"], "--epochs", "2", "--repeats", "2")
    own = shell.json(*arguments)
    assert shell.json(*arguments, "--arch", "auto")["results"] == own["results"]


def test_a_name_for_what_exists_renames_it(made):
    shell, first = made
    name, id = first["artifact"]["name"], first["artifact"]["id"]
    for before, after in ((name, "other"), ("other", name)):
        again = shell("distill", "digits", *TINY, "--name", after, "--json")
        assert (again.document["artifact"]["name"], again.document["artifact"]["reused"]) == (after, True)
        assert f"note: renamed {before}@{id} to {after}@{id}\n" in again.err


def test_a_budget_gives_the_same_set(made, shell):
    document = shell.json("distill", "digits", *TINY, "--segment", "auto", "--memory-budget", "20GB")
    assert document["artifact"]["id"] == made[1]["artifact"]["id"]
    assert set_file(document).read_bytes() == set_file(made[1]).read_bytes()


def test_eval_under_a_threshold_exits_with_1(made):
    shell, first = made
    arguments = ("eval", first["artifact"]["id"], "--epochs", "2", "--repeats", "2")
    assert shell(*arguments, "--min-accuracy", "0").code == 0
    below = shell(*arguments, "--min-accuracy", "1")
    assert below.code == 1
    assert "below" in below.err


def test_a_dry_run_prints_the_published_settings_and_makes_nothing(shell):
    plan = shell.json("distill", "cifar100", "--ipc", "50", "--segment", "100", "--dry-run")
    d, teachers = plan["recipe"]["distill"], plan["recipe"]["teachers"]
    assert (d["image_lr"], d["student"]["lr"], d["student"]["epochs"]) == (1, 0.04, 250)
    assert (d["rounds"], d["batch"]) == (2500, 2500)
    assert (d["checkpoints"], d["refresh_every"], d["alpha"]) == (5, 3, 0.1)
    assert plan["recipe"]["evaluate"]["epochs"] == 1000
    assert teachers["count"] == 10
    assert [step["name"] for step in plan["steps"]] == ["teachers", "distill"]
    assert plan["seconds"] > 60
    assert plan["memory_bytes"] > 1e8
    assert shell.artifacts() == []
    text = shell("distill", "cifar100", "--ipc", "50", "--segment", "100", "--dry-run").out
    assert "train 10 convnet3 of width 128" in text


def test_a_folder_of_images_distils_and_is_evaluated(shell, tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = torch.Generator().manual_seed(0)
    for k, name in enumerate(("bright", "dark")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = torch.randint(0, 100, (16, 16, 3), generator=rng) + 150 * (1 - k)
            image.fromarray(pixels.byte().numpy()).save(tmp_path / "data" / name / f"{i}.png")
    document = shell.json("distill", tmp_path / "data", *TINY, "--name", "lamps")
    assert document["artifact"]["name"] == "lamps"
    report = shell.json("eval", "lamps", "--epochs", "2", "--repeats", "1")
    assert report["results"][0]["protocol"]["test_images"] == 8
    assert load_file(set_file(document))["images"].shape == (4, 3, 16, 16)


def test_flags_stand_over_a_file_and_the_file_over_the_preset(shell, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('preset = "digits-ipc1"\n[distill]\nrounds = 5\nalpha = 0.5\n')
    plan = shell.json("distill", "--config", file, "--rounds", "7", "--dry-run")
    assert (plan["recipe"]["distill"]["rounds"], plan["recipe"]["distill"]["alpha"]) == (7, 0.5)


def test_sets_travel_as_folders_between_stores(made, tmp_path):
    _, first = made
    elsewhere = Shell(tmp_path / "elsewhere")
    path = first["artifact"]["path"]
    assert elsewhere("verify", path).code == 0
    # Neither its pool nor its data are in that store: the baseline's labels came with the set.
    report = elsewhere.json("eval", path, "--epochs", "1", "--repeats", "1")
    assert report["results"][0]["random_accuracy_mean"] is not None
