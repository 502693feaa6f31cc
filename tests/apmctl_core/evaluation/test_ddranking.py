"""The evaluation beside that of ddranking, which knows nothing of this one: the same tensors, protocol and network."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from apmctl_core import intervals
from apmctl_core.artifacts.artifact import open_artifact
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.config import DataConfig, ModelConfig, Recipe
from apmctl_core.data import Dataset, load
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.evaluation.protocols import PROTOCOLS, Protocol
from apmctl_core.evaluation.scores import with_scores
from apmctl_core.jobs.recipes import evaluation
from apmctl_core.machine.runtime import resolve
from apmctl_core.models import build
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.losses import kl_divergence
from apmctl_core.training.procedure import ADAMW, CROSS_ENTROPY, Loss, Procedure, Schedule
from apmctl_core.values import DistilledSet, State
from tests.command import Shell
from tests.environments import interpreter
from tests.helpers import context

pytestmark = pytest.mark.slow

REQUIRED = ("ddranking==0.2.0", "kornia==0.9.0", "kornia_rs==0.2.0", "timm==1.0.31")
RUNS = Path(__file__).with_name("ddranking_runs.py")
MODEL = ModelConfig(arch="convnet2", width=128)  # the one width that ddranking has
EPOCHS, BATCH, NETWORKS = 40, 32, 5

# ddranking's "cosine" ends at half of the learning rate.
HALF_COSINE = Schedule("half a cosine", lambda epoch, epochs: 0.5 * (1 + math.cos(math.pi * epoch / epochs / 2)))
KL = Loss("kl divergence", functools.partial(kl_divergence, temperature=1.0))


@dataclass(frozen=True)
class Twin:
    """A protocol of ddranking, in its words and in ours. Both are its demonstrations', with fewer epochs."""

    options: dict[str, Any]
    lr: float
    ours: Protocol


SIZES = {"model_name": "ConvNet-2", "num_epochs": EPOCHS, "syn_batch_size": BATCH}
SETTINGS = {"epochs": EPOCHS, "batch": BATCH, "repeats": NETWORKS}
TWINS = {
    "hard": Twin(
        options={
            **SIZES,
            **{"optimizer": "sgd", "lr_scheduler": "step", "step_size": EPOCHS // 2, "data_aug_func": "dsa"},
            **{"weight_decay": 5e-4, "momentum": 0.9},
            "aug_params": {"flip": 0.5, "rotate": 15.0, "saturation": 2.0, "brightness": 1.0, "contrast": 0.5}
            | {"scale": 1.2, "crop": 0.125, "cutout": 0.5},
        },
        lr=0.01,
        ours=Protocol(
            procedures={"hard": Procedure(loss=CROSS_ENTROPY)},
            settings={**SETTINGS, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "dsa": "batch"},
        ),
    ),
    "soft": Twin(
        options={
            **SIZES,
            **{"optimizer": "adamw", "lr_scheduler": "cosine", "weight_decay": 0.01, "data_aug_func": None},
            **{"soft_label_criterion": "kl", "loss_fn_kwargs": {"temperature": 1.0, "scale_loss": False}},
        },
        lr=0.001,
        ours=Protocol(
            procedures={"soft": Procedure(loss=KL, optimiser=ADAMW, schedule=HALF_COSINE, augmentation=None)},
            settings={**SETTINGS, "lr": 0.001, "weight_decay": 0.01},
        ),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _protocols() -> Iterator[None]:
    for labels, twin in TWINS.items():
        PROTOCOLS.add(f"ddranking-{labels}", twin.ours)
    yield
    for labels in TWINS:
        del PROTOCOLS[f"ddranking-{labels}"]


class DDRanking:
    """ddranking in an environment of its own, which borrows torch from this one."""

    def __init__(self, folder: Path) -> None:
        self._python = interpreter("ddranking", *REQUIRED, beside=torch)
        self._folder = folder

    def __call__(self, **request: Any) -> Any:
        """The answer to a request of `ddranking_runs.py`."""
        asked, answer = self._folder / "request.pt", self._folder / "answer.pt"
        torch.save(request, asked)
        done = subprocess.run(
            [self._python, RUNS, asked, answer], capture_output=True, text=True, cwd=self._folder, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return torch.load(answer, weights_only=True)


@pytest.fixture(scope="module")
def ddranking(tmp_path_factory: pytest.TempPathFactory) -> DDRanking:
    return DDRanking(tmp_path_factory.mktemp("ddranking"))


@dataclass(frozen=True)
class Material:
    """A set that the command distilled, and its data set."""

    values: DistilledSet
    dataset: Dataset

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Test images in the space that networks train in, and their labels."""
        split = self.dataset.test
        return self.values.preprocessing.forward(torch.tensor(split.images)), torch.tensor(split.labels)

    def targets(self, labels: str) -> Tensor:
        return self.values.logits if labels == "soft" else self.values.labels


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """The digits in ink of random colours (ddranking takes colour images alone), and a small set of them."""
    from sklearn.datasets import load_digits

    root, rng, digits = tmp_path_factory.mktemp("digits"), np.random.default_rng(0), load_digits()
    for number, (grey, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / "images" / ("test" if number % 5 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        ink = rng.uniform(0.4, 1, 3)
        pixels = (grey[:, :, None] / 16 * ink * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    shell = Shell(root / "store")
    made = shell.json(
        *("distill", root / "images", "--ipc", "5", "--arch", "convnet2", "--width", "16", "--precision", "fp32"),
        *("--rounds", "20", "--teacher-count", "2", "--teacher-epochs", "10"),
    )
    values = load_set(open_artifact(Path(made["artifact"]["path"])))
    return Material(replace(values, baseline=None), load(str(root / "images"), root / "cache"))


def theirs(
    ddranking: DDRanking, material: Material, labels: str, initial: Sequence[State | None], **changes: Any
) -> Any:
    """What ddranking makes of the set under its protocol: accuracies and weights, a network for each of `initial`."""
    twin = TWINS[labels]
    return ddranking(
        do="train",
        labels=labels,
        images=material.values.images,
        targets=material.targets(labels),
        test=material.test,
        lr=twin.lr,
        options={**twin.options, **changes},
        initial=initial,
    )


def settled(material: Material, labels: str, **changes: Any) -> Recipe:
    """The recipe of an evaluation under the twin protocol."""
    recipe = Recipe(data=DataConfig(dataset="digits"), model=MODEL)
    asked = {"protocol": f"ddranking-{labels}", "labels": [labels], **changes}
    return evaluation(recipe, asked, material.values.shape, material.values.num_classes, resolve("cpu"))


def ours(material: Material, labels: str, **changes: Any) -> Sequence[float]:
    """The accuracies of our networks under the twin protocol."""
    recipe = settled(material, labels, **changes)
    (row,) = evaluate(material.values, material.dataset, [recipe.model], recipe.evaluate, context())
    return row.accuracies


def test_a_seed_draws_the_same_network(ddranking: DDRanking, material: Material) -> None:
    found = theirs(ddranking, material, "hard", [None, None], num_epochs=0)["weights"]
    for seed, state in enumerate(found):
        own = build(MODEL, material.values.shape, material.values.num_classes, seed).state_dict()
        assert own.keys() == state.keys()
        assert all(torch.equal(own[name], state[name]) for name in own)


@pytest.mark.parametrize("labels", TWINS)
def test_without_chance_the_trained_network_is_the_same(ddranking: DDRanking, material: Material, labels: str) -> None:
    """With whole batches and no augmentation nothing is drawn but the initial weights."""
    values, epochs, decay = material.values, 20, 0.1  # a decay that so few epochs show
    changes = {"num_epochs": epochs, "syn_batch_size": len(values.images), "data_aug_func": None, "weight_decay": decay}
    changes |= {"step_size": epochs // 2} if labels == "hard" else {}
    network = build(MODEL, values.shape, values.num_classes)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    (weights,) = theirs(ddranking, material, labels, [initial], **changes)["weights"]
    config = settled(material, labels, epochs=epochs, batch=len(values.images), weight_decay=decay).evaluate
    trainer = Trainer(network, replace(TWINS[labels].ours.procedures[labels], augmentation=None), context())
    source = TensorSource(values.images, material.targets(labels))
    trainer.fit(initial, source, config, context().stream, context().segment)
    # Logits, and not weights: instance normalisation cancels biases of convolutions, and Adam moves them by rounding.
    predict, logits = Predictor(build(MODEL, values.shape, values.num_classes), context()), []
    for state in (initial, weights, trainer.weights()):
        predict.load(state)
        logits.append(predict(material.test[0]))
    before, other, own = logits
    assert (own - other).norm() < 1e-5 * (own - before).norm()


@dataclass(frozen=True)
class Measured:
    """Accuracies under one protocol, of networks that begin with the same weights on both sides."""

    labels: str
    ours: Sequence[float]
    theirs: Sequence[float]


@pytest.fixture(scope="module", params=TWINS)
def measured(request: pytest.FixtureRequest, ddranking: DDRanking, material: Material) -> Measured:
    labels, initial, right = request.param, [], Trainer.fit

    def fit(self: Trainer, weights: State, *more: Any, **options: Any) -> None:
        initial.append({name: value.clone() for name, value in weights.items()})
        right(self, weights, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        own = ours(material, labels)
    assert len(initial) == NETWORKS
    return Measured(labels, own, theirs(ddranking, material, labels, initial)["accuracies"])


def difference(own: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The interval of the difference of ours and theirs; `pytest -s` shows the figures."""
    bounds = intervals.of_difference(own, other)
    assert bounds is not None
    means = [f"{fmean(values):.4f} {intervals.of_mean(values)}" for values in (own, other)]
    sys.stdout.write(f"\nours {means[0]}, ddranking {means[1]}, difference {bounds}\n")
    return bounds


def test_the_accuracy_is_the_same_within_the_noise(measured: Measured) -> None:
    low, high = difference(measured.ours, measured.theirs)
    assert low <= 0 <= high
    assert high - low < 0.03


def test_another_learning_rate_is_noticed(measured: Measured, material: Material) -> None:
    lower = ours(material, measured.labels, lr=TWINS[measured.labels].lr / 10)
    assert difference(lower, measured.theirs)[1] < 0


def test_the_scores_are_the_same_where_accuracies_are_fractions(ddranking: DDRanking) -> None:
    found = ddranking(
        do="scores",
        accuracies={
            "soft": {"whole hard": 0.9, "set hard": 0.62, "set soft": 0.75, "random soft": 0.7},
            "hard": {"whole hard": 0.9, "set hard": 0.62, "random hard": 0.55},
            "augmented": {"set augmented": 0.75, "random augmented": 0.7, "set plain": 0.5, "random plain": 0.3},
        },
    )
    plain = {"distilled": (0.5,), "random": (0.3,)}
    hard = ReportRow("vit", "hard", (0.62,), (0.55,), {}, whole=(0.9,))
    soft = ReportRow("vit", "soft", (0.75,), (0.7,), {}, unaugmented=plain)
    (alone,), (below, above) = with_scores([hard]), with_scores([hard, soft])
    of_labels = {"hlr": "hard_label_recovery", "ior": "improvement_over_random", "lrs": "label_robust_score"}
    for own, kind in ((alone.scores, "hard"), (below.scores | above.scores, "soft")):
        assert {name: own[name] for name in of_labels} == pytest.approx(
            {name: found[kind][other] for name, other in of_labels.items()}
        )
    assert above.scores["ars"] == pytest.approx(found["augmented"]["augmentation_robust_score"])
