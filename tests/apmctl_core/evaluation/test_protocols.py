"""Each protocol against its table, read from what trains: optimiser, schedule, epochs, batch, loss, augmentation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from apmctl_core.config import DataConfig, ModelConfig, Recipe
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.jobs.recipes import evaluation
from apmctl_core.machine.runtime import resolve
from apmctl_core.training.loop import Trainer
from tests.apmctl_core.evaluation.test_evaluate import DATA, context, distilled

RECIPE = Recipe(data=DataConfig(dataset="digits"), model=ModelConfig(arch="convnet1", width=4))
# (networks, epochs, learning rate or None for the set's own, momentum, weight decay, batch)
TABLE = {
    "mtt": (5, 1000, None, 0.9, 5e-4, 256),
    "datm": (5, 1000, None, 0.9, 5e-4, 128),
    "dc": (20, 300, 0.01, 0.9, 5e-4, 256),
}


class Captured(Exception):
    """What a training began with."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trainer, configuration and what a report says, of the first network that a protocol trains."""

    def begin(protocol: str, labels: str, **changes: Any) -> tuple[Trainer, Any]:
        recipe = evaluation(RECIPE, {"protocol": protocol, **changes}, (1, 8, 8), 3, resolve("cpu"))

        def fit(self: Trainer, initial: Any, source: Any, config: Any, *more: Any, **options: Any) -> None:
            raise Captured(self, config)

        monkeypatch.setattr(Trainer, "fit", fit)
        with pytest.raises(Captured) as caught:
            evaluate(
                distilled(), DATA, [RECIPE.model], dataclasses.replace(recipe.evaluate, labels=(labels,)), context()
            )
        trainer, config = caught.value.args
        return trainer, config

    return begin


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_protocol_trains_as_its_table_says(trained: Any, name: str, labels: str) -> None:
    repeats, epochs, lr, momentum, decay, batch = TABLE[name]
    trainer, config = trained(name, labels)
    assert (config.repeats, config.epochs, config.batch, config.dsa) == (repeats, epochs, batch, "batch")
    procedure = trainer.procedure
    optimiser = procedure.optimiser.function(nn.Linear(1, 1).parameters(), config, torch.device("cpu"))
    assert type(optimiser) is torch.optim.SGD
    wanted = {"lr": lr or RECIPE.evaluate.lr, "momentum": momentum, "weight_decay": decay, "nesterov": False}
    assert {key: optimiser.defaults[key] for key in wanted} == wanted
    factors = [procedure.schedule.function(epoch, epochs) for epoch in (0, epochs // 2 - 1, epochs // 2, epochs - 1)]
    assert factors == [1, 1, 0.1, 0.1]
    assert procedure.augmented
    logits, teacher, classes = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    targets = teacher if labels == "soft" else classes
    distribution = teacher.softmax(1) if labels == "soft" else F.one_hot(classes, 3).float()
    cross_entropy = -(distribution * logits.log_softmax(1)).sum(1)
    assert torch.allclose(procedure.loss.function(logits, targets), cross_entropy, atol=1e-6)


def test_what_overrides_a_protocol_is_recorded() -> None:
    def said(protocol: str, **changes: Any) -> Any:
        changes = {"epochs": 2, "repeats": 1, "labels": ["hard"]} | changes
        recipe = evaluation(RECIPE, {"protocol": protocol, **changes}, (1, 8, 8), 3, resolve("cpu"))
        (row,) = evaluate(distilled(), DATA, [RECIPE.model], recipe.evaluate, context())
        return row.protocol.get("overridden")

    assert said("dc") == "epochs 2, repeats 1"
    assert said("dc", lr=0.5) == "epochs 2, repeats 1, lr 0.5"
    assert said("apm") is None  # it fixes nothing


def test_all_protocols_have_a_row_in_the_table() -> None:
    assert PROTOCOLS.keys() == {"apm", *TABLE}
