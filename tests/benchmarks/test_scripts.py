"""Every benchmark runs in small and writes its page, so that none rots between the runs that count."""

import re

import accuracy
import cycle
import gpu
import large
import memory
import plain
import pytest
import startup
import step

SCRIPTS = {
    "plain": (plain, ["as it is", "objective log"]),
    "cycle": (cycle, ["plain: eager fp32", "engine, bf16, compiled"]),
    "step": (step, ["share", "Profile of a step"]),
    "memory": (memory, ["beyond an idle process", "momentum", "IPC", ".svg"]),
    "large": (large, ["set initialised", "GB beyond"]),
    "startup": (startup, ["show", "distill, reused"]),
    "accuracy": (accuracy, ["fp32, eager", "two standard errors"]),
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
