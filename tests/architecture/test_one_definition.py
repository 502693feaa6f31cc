"""A network, a method, a protocol, a baseline and a score are added by one definition each.

All are used through the command line.

Data sets and file formats: `tests/apmctl_core/data/test_known.py` and `tests/apmctl_core/formats/test_registry.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from apmctl import cli as shell
from apmctl_core import config
from apmctl_core.config import DistillConfig, method_config
from apmctl_core.evaluation import scores
from apmctl_core.evaluation.coresets import CORESETS, coreset
from apmctl_core.evaluation.protocols import PROTOCOLS, Protocol
from apmctl_core.machine import interrupts
from apmctl_core.methods import METHODS, Method, Update, method
from apmctl_core.models import ARCHITECTURES, architecture
from apmctl_core.models.size import FORWARD
from apmctl_core.training.procedure import CROSS_ENTROPY, Procedure, Schedule

REGISTRIES = (
    ARCHITECTURES,
    CORESETS,
    METHODS,
    config.METHODS,
    PROTOCOLS,
    scores.SCORES,
)
TEACHERS = ("--width", "4", "--teacher-count", "1", "--teacher-epochs", "1")
TINY = (*TEACHERS, "--rounds", "2", "--student-epochs", "2", "--checkpoints", "1", "--refresh-every", "1")
EVAL = ("--epochs", "2", "--repeats", "1")
MACHINE = ("--device", "cpu", "--no-compile")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command line in this process and read its JSON; what a test registers is forgotten after it."""
    monkeypatch.setenv("APMCTL_HOME", str(tmp_path / "store"))
    before = [dict(registry) for registry in REGISTRIES]

    def call(*arguments, code=0):
        capsys.readouterr()
        assert shell.run([*arguments, "--json"]) == code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    yield call
    interrupts.restore()
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def shown_and_sound(run, document):
    """Show and verify the artifact of a document."""
    ref = document["artifact"]["id"]
    assert run("verify", ref)["artifact"]["id"] == ref
    return run("show", ref)


def define_network():
    @architecture("normnet", smallest=4)
    class NormNet(nn.Sequential):
        """A network with batch statistics and dropout."""

        def __init__(self, width, shape, num_classes):
            channels, height, side = shape
            super().__init__(
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Flatten(),
                nn.Linear(width * height * side, num_classes),
            )


def test_a_network_with_batch_statistics(run):
    define_network()
    arguments = ("distill", "digits", "--ipc", "1", "--arch", "normnet", *TINY, *MACHINE)
    plan = run(*arguments, "--dry-run")
    assert plan["recipe"]["model"]["arch"] == "normnet"
    assert plan["seconds"] > 0
    assert plan["memory_bytes"] > 0
    made = run(*arguments)
    assert made["artifact"]["id"] == plan["id"]
    assert shown_and_sound(run, made)["recipe"]["model"]["arch"] == "normnet"
    report = run("eval", made["artifact"]["id"], "--arch", "normnet", "--arch", "convnet1", *EVAL, *MACHINE)
    assert {row["arch"] for row in report["results"]} == {"normnet", "convnet1"}
    pool = next(a for a in run("list")["artifacts"] if a["kind"] == "pool")
    assert run("verify", pool["id"])["artifact"]["kind"] == "pool"


def test_batches_of_a_network_with_batch_statistics_are_not_cut(run):
    define_network()
    arguments = ("distill", "digits", "--ipc", "1", "--arch", "normnet", *TINY, *MACHINE)
    refused = run(*arguments, "--segment", "4", code=2)
    assert "--segment 4 would divide a batch" in refused["error"]["message"]
    assert run("list")["artifacts"] == []


def define_method():
    @method_config("average")
    @dataclass(frozen=True, kw_only=True)
    class AverageConfig(DistillConfig):
        method: str = "average"
        pull: float = 0.5

    @method("average")
    class Average(Method):
        """Pulls each image towards the mean of all."""

        @property
        def cycles(self):
            return self.config.rounds

        def rounds(self, cycles):
            return cycles

        def cycle(self, state, segment):
            images = torch.lerp(state.images, state.images.mean(0), self.config.pull)
            return Update(index=torch.arange(len(images)), images=images, metrics={"cycle": float(state.cycle)})

        @classmethod
        def cost(cls, config, task, size):
            return size.cost(task, passes=config.ipc * task.num_classes * FORWARD, step=0, most=task.num_classes)


def test_a_method_with_a_configuration_of_its_own(run, tmp_path):
    define_method()
    file = tmp_path / "average.toml"
    file.write_text('[distill]\nmethod = "average"\nipc = 2\nrounds = 3\npull = 0.25\n')
    arguments = ("distill", "digits", "--config", str(file), "--arch", "convnet1", *TEACHERS, *MACHINE)
    plan = run(*arguments, "--dry-run")
    assert plan["recipe"]["distill"]["pull"] == 0.25
    assert "alpha" not in plan["recipe"]["distill"]
    made = run(*arguments)
    assert made["artifact"]["id"] == plan["id"]
    assert made["metrics"]["cycle"] == 2
    assert shown_and_sound(run, made)["recipe"]["distill"]["method"] == "average"
    assert run("eval", made["artifact"]["id"], *EVAL, *MACHINE)["results"][0]["protocol"]["images"] == 20


def test_a_protocol_and_a_score(run):
    constant = Schedule("constant", lambda epoch, epochs: 1.0)
    PROTOCOLS.add(
        "plain",
        Protocol(
            procedures={"hard": Procedure(loss=CROSS_ENTROPY, schedule=constant, augmentation=None)},
            settings={"labels": ["hard"], "epochs": 3, "batch": 4},
        ),
    )
    scores.score("errors")(lambda row, _: 1 - row.accuracy_mean)
    made = run("distill", "digits", "--ipc", "1", "--arch", "convnet1", *TINY, *MACHINE)
    arguments = ("eval", made["artifact"]["id"], "--protocol", "plain", "--repeats", "1", *MACHINE)
    report = run(*arguments)
    (row,) = report["results"]
    ran = {"name": "plain", "epochs": 3, "batch": 4, "schedule": "constant", "augmentation": "none"}
    assert {key: row["protocol"][key] for key in ran} == ran
    assert row["protocol"]["loss"] == "cross-entropy"
    assert row["scores"]["errors"] == pytest.approx(1 - row["accuracy_mean"])
    assert row["scores"]["gain"] == pytest.approx(row["accuracy_mean"] - row["random_accuracy_mean"])
    (shown,) = shown_and_sound(run, report)["results"]
    assert {key: row[key] for key in shown} == shown
    assert run(*arguments, "--epochs", "1")["results"][0]["protocol"]["epochs"] == 1
    refused = run(*arguments, "--labels", "soft", code=2)
    assert "--labels cannot be 'soft'" in refused["error"]["message"]


def test_a_baseline(run):
    coreset("unsure")(lambda view, count: view.probabilities[:, :, view.label].mean(0).argsort()[:count])
    made = run("distill", "digits", "--ipc", "1", "--arch", "convnet1", *TINY, *MACHINE)
    report = run("eval", made["artifact"]["id"], "--baseline", "unsure", "--labels", "hard", *EVAL, *MACHINE)
    (row,) = report["results"]
    assert list(row["coresets"]) == ["unsure"]
    assert row["baselines"]["unsure"]["difference"] == pytest.approx(row["scores"]["coreset_gain"])
    (shown,) = shown_and_sound(run, report)["results"]
    assert shown["coresets"] == row["coresets"]
    (kept,) = run("list", "--kind", "coreset")["artifacts"]
    assert shown_and_sound(run, {"artifact": kept})["metrics"]["method"] == "unsure"
    assert "unsure" in run("eval", made["artifact"]["id"], "--baseline", "sure", code=2)["error"]["hint"]
