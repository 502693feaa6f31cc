"""What Tab offers: artifacts, presets, data sets and choices; quickly, and without a word where something is wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from apmctl import completion
from apmctl.cli import app
from apmctl_core.artifacts.store import Store

from .conftest import COMMAND
from .samples import begin_run, draft, put_report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two sets of one name, an unfinished one, and a report."""
    for seed in (0, 1):
        manifest = draft("set", "digits-ipc1", inputs={"pool": f"{seed}" * 12})
        with Store(tmp_path / "store").workspace("set", manifest.name, manifest.id) as work:
            for name in ("set.safetensors", "preprocessing.safetensors"):
                work.write(name, b"")
            work.publish(manifest)
    put_report(tmp_path / "store", name="digits-ipc1-eval")
    begin_run(tmp_path / "store", "half-done")
    return tmp_path / "store"


@pytest.fixture
def offered(root: Path) -> Callable[..., list[str]]:
    """What is offered in place of the last word of a command line."""

    def complete(line: str, home: Path = root) -> list[str]:
        words = {"COMP_WORDS": f"apmctl {line}", "COMP_CWORD": str(len(line.split(" ")))}
        env = {"_APMCTL_COMPLETE": "complete_bash", "APMCTL_HOME": str(home), **words}
        result = CliRunner().invoke(app, [], prog_name="apmctl", env=env)
        assert result.exit_code == 0
        assert result.stderr == ""
        return result.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dist", ["distill"]),
        ("show ", ["digits-ipc1", "digits-ipc1-eval", "half-done"]),
        ("rm half", ["half-done"]),
        ("eval ", ["digits-ipc1"]),
        ("relabel d", ["digits-ipc1"]),
        ("compare digits-ipc1 ", ["digits-ipc1"]),
        ("distill digits --teachers ", []),
        ("distill cifar", ["cifar10", "cifar100"]),
        ("presets digits", ["digits-ipc1", "digits-ipc10"]),
        ("distill --preset cifar10-l", ["cifar10-laptop-ipc10"]),
        ("distill --device ", ["auto", "cpu", "cuda", "mps"]),
        ("teachers --preprocessing z", ["zca"]),
        ("list --kind p", ["pool"]),
        ("show --store /nowhere d", []),
    ],
)
def test_what_is_asked_for_is_completed(offered: Callable[..., list[str]], line: str, expected: list[str]) -> None:
    assert sorted(offered(line)) == sorted(expected)


def test_ids_are_offered_once_a_name_is_whole(offered: Callable[..., list[str]], root: Path) -> None:
    refs = [artifact.ref for artifact in Store(root).list("set")]
    assert len(refs) == 2
    assert sorted(offered("eval digits-ipc1@")) == sorted(refs)


def test_what_goes_wrong_offers_nothing(
    offered: Callable[..., list[str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sets" / "digits-ipc1" / "notes").write_text("")
    (root / "reports" / "digits-ipc1-eval").rename(root / "elsewhere")
    assert offered("show d") == ["digits-ipc1"]
    monkeypatch.setattr(Store, "list", lambda *_: 1 / 0)
    assert offered("show ") == []


def test_every_metavar_of_an_artifact_is_known() -> None:
    for metavar in ("DATASET", "PRESET", "REF", "REF...", "SET", "SET...", "POOL", "a|b"):
        assert completion.completer(metavar) is not None, metavar
    assert [completion.completer(metavar) for metavar in ("DIR", "FILE", "N", None)] == [None] * 4


def test_bash_completes_by_the_script_that_is_installed_and_nothing_heavy_is_loaded(root: Path) -> None:
    environment = {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}", "APMCTL_HOME": str(root)}
    script = subprocess.run(
        [COMMAND], env=os.environ | environment | {"_APMCTL_COMPLETE": "source_bash"}, capture_output=True, text=True
    )
    # An import of torch, numpy or the Hub's client would be an error, and leave the list empty.
    blocked = "import sys\nfor name in ('torch', 'numpy', 'huggingface_hub'): sys.modules[name] = None\n"
    (root / "sitecustomize.py").write_text(blocked)
    line = 'COMP_WORDS=(apmctl show digits); COMP_CWORD=2; _apmctl_completion apmctl; printf "%s\\n" "${COMPREPLY[@]}"'
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script.stdout}\n{line}"],
        env=os.environ | environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (sorted(done.stdout.split()), done.stderr) == (["digits-ipc1", "digits-ipc1-eval"], "")


@pytest.mark.parametrize("flag", ["--install-completion", "--show-completion"])
def test_completion_can_be_installed_and_shown(flag: str) -> None:
    group = typer.main.get_command(app)
    assert flag in {opt for param in group.params for opt in param.opts}
