"""Every benchmark runs in small and writes its page, so that none rots between the runs that count."""

import argparse
import re

import accuracy
import cross
import cycle
import gpu
import large
import memory
import numpy as np
import plain
import pytest
import startup
import step
import variants

from tests.helpers import toy_dataset

SCRIPTS = {
    "plain": (plain, ["as it is", "objective log"]),
    "cycle": (cycle, ["plain: eager fp32", "engine, bf16, compiled"]),
    "step": (step, ["share", "Profile of a step"]),
    "memory": (memory, ["beyond an idle process", "momentum", "IPC", ".svg"]),
    "large": (large, ["set initialised", "GB beyond"]),
    "startup": (startup, ["show", "distill, reused"]),
    "accuracy": (accuracy, ["fp32, eager", "two standard errors"]),
    "cross": (cross, ["herding", "above the best coreset", "soft labels", "Student's t"]),
    "variants": (variants, ["the test split (it decides nothing)", "random images", "Student's t"]),
}


def page(module, name, folder, *more):
    module.main(["--quick", "--results", str(folder), *more])
    (path,) = folder.glob("*.md")
    assert re.fullmatch(rf"{name}-\d{{4}}-\d\d-\d\d\.md", path.name)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_in_small_and_writes_a_page_that_says_what_was_measured_where(name, tmp_path):
    module, expected = SCRIPTS[name]
    text = page(module, name, tmp_path)
    for said in [f"`python benchmarks/{name}.py --quick`", "torch", "threads", "quick settings", *expected]:
        assert said in text
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    assert all(picture.name in text for picture in tmp_path.glob("*.svg"))


def test_what_is_chosen_is_chosen_on_images_that_nothing_was_trained_on():
    whole = toy_dataset(per_class=20, classes=3)
    part = variants.held_out(whole)
    assert (len(part.train), len(part.test)) == (48, 12)
    assert np.bincount(part.test.labels).tolist() == [4, 4, 4]
    images = [{image.tobytes() for image in split.images} for split in (part.train, part.test, whole.train, whole.test)]
    assert not images[0] & images[1]
    assert images[0] | images[1] == images[2]
    assert not images[1] & images[3]
    assert part.fingerprint != whole.fingerprint


def test_variants_are_all_combinations_of_what_varies():
    args = argparse.Namespace(quick=False, set=["distill.ipc=3"], vary=["distill.draw=cycle;round", "seed=1;2"])
    found = variants.variants(args)
    assert len(found) == 4
    assert found["distill.draw=round, seed=2"] == {"distill": {"ipc": 3, "draw": "round"}, "seed": 2}


def test_without_a_gpu_the_page_says_that_its_run_is_outstanding(tmp_path):
    text = page(gpu, "gpu", tmp_path, "--device", "cpu")
    assert "The run on a GPU is outstanding" in text
    assert "2,500 rounds" in text
    assert "10 teachers, 100 epochs" in text


@pytest.mark.gpu
def test_the_recipe_runs_on_a_gpu(tmp_path):
    assert "outstanding" not in page(gpu, "gpu", tmp_path, "--device", "cuda")


def test_a_quick_run_leaves_no_page_among_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("common.RESULTS", tmp_path)
    plain.main(["--quick"])
    assert list(tmp_path.iterdir()) == []
    assert "differ by at most" in capsys.readouterr().out
