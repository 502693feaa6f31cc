"""Each protocol against its table, read from what trains: optimiser, schedule, epochs, batch, loss, augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apmctl_core.config import DataConfig, ModelConfig, Recipe
from apmctl_core.errors import ConfigError
from apmctl_core.evaluation.evaluate import cost, evaluate
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.jobs.recipes import evaluation
from apmctl_core.machine.runtime import resolve
from apmctl_core.models import size_of
from apmctl_core.training.loop import Trainer
from apmctl_core.values import Task
from tests.apmctl_core.evaluation.test_evaluate import DATA, context, distilled

RECIPE = Recipe(data=DataConfig(dataset="digits"), model=ModelConfig(arch="convnet1", width=4))


@dataclass(frozen=True)
class Row:
    """A row of the table of protocols; `lr` None is the set's own."""

    networks: int
    epochs: int
    lr: float | None
    batch: int
    optimiser: type[torch.optim.Optimizer] = torch.optim.SGD
    settings: Mapping[str, float] = field(default_factory=lambda: {"momentum": 0.9, "weight_decay": 5e-4})
    soft: Callable[[Tensor, Tensor], Tensor] = lambda logits, teacher: entropy(logits, teacher.softmax(1))
    factors: tuple[float, ...] = (1, 1, 0.1, 0.1)  # at the start, before half, at half, at 9/10
    augmentation: str = "dsa, one transformation a batch"


def entropy(logits: Tensor, distribution: Tensor) -> Tensor:
    return -(distribution * logits.log_softmax(1)).sum(1)


def kl_at_20(logits: Tensor, teacher: Tensor) -> Tensor:
    wanted = (teacher / 20).softmax(1)
    return (wanted * (wanted.log() - (logits / 20).log_softmax(1))).sum(1)


ADAMW: dict[str, Any] = {"lr": 1e-3, "optimiser": torch.optim.AdamW, "settings": {"weight_decay": 0.01}}
TABLE = {
    "mtt": Row(5, 1000, None, 256),
    "datm": Row(5, 1000, None, 128),
    "dc": Row(20, 300, 0.01, 256),
    "ncfm": Row(
        10,
        2000,
        batch=128,
        factors=(1, 0.25, 0.25, 0.0625),
        augmentation="dsa, one transformation an image; cutmix in half of the steps",
        **ADAMW,
    ),
    "sre2l": Row(
        1,
        300,
        batch=128,
        soft=kl_at_20,
        factors=(1, 0.50524, 0.5, 0.02447),
        augmentation="random resized crop and flip; cutmix",
        **ADAMW,
    ),
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
    row = TABLE[name]
    trainer, config = trained(name, labels)
    assert (config.repeats, config.epochs, config.batch) == (row.networks, row.epochs, row.batch)
    procedure = trainer.procedure
    optimiser = procedure.optimiser.function(nn.Linear(1, 1).parameters(), config, torch.device("cpu"))
    assert type(optimiser) is row.optimiser
    wanted = {"lr": row.lr or RECIPE.evaluate.lr, **row.settings}
    assert {key: optimiser.defaults[key] for key in wanted} == wanted
    half = row.epochs // 2
    factors = [procedure.schedule.function(epoch, row.epochs) for epoch in (0, half - 1, half, row.epochs * 9 // 10)]
    assert factors == pytest.approx(row.factors, abs=1e-4)
    said = procedure.describe(config)
    assert said["augmentation"] == row.augmentation
    assert ("momentum" in said) == ("momentum" in row.settings)
    logits, teacher, classes = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    found = procedure.loss.function(logits, teacher if labels == "soft" else classes)
    expected = row.soft(logits, teacher) if labels == "soft" else entropy(logits, F.one_hot(classes, 3).float())
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_protocol_that_mixes_images_gets_its_batches_whole(trained: Any) -> None:
    sizes = [size_of(RECIPE.model, (1, 8, 8), 3)]
    task = Task((1, 8, 8), 3, "standard", "fp32", test=30)
    for name, whole in (("dc", 1), ("sre2l", 128)):
        _, config = trained(name, "hard")
        assert cost(config, 500, task, sizes).whole == whole


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


def test_a_rate_that_is_given_takes_the_place_of_a_protocols_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searching = dataclasses.replace(PROTOCOLS["mtt"], settings={"epochs": 3, "rates": [0.1, 0.01]})
    monkeypatch.setitem(PROTOCOLS, "searching", searching)

    def settled(**changes: Any) -> Any:
        return evaluation(RECIPE, {"protocol": "searching", **changes}, (1, 8, 8), 10, resolve("cpu")).evaluate

    assert settled().rates == (0.1, 0.01)
    assert (settled(lr=0.5).rates, settled(lr=0.5).lr) == (None, 0.5)
    assert settled(rates=[0.2, 0.1, 0.2]).rates == (0.2, 0.1)
    with pytest.raises(ConfigError, match=r"`evaluate\.rates` cannot be searched for all real images"):
        settled(whole=True)
