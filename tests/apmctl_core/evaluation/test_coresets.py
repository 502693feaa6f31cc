"""Coresets: chosen as their definitions say, the same on any segment, labelled as a set is, kept as artifacts."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from apmctl_core.artifacts import Artifact
from apmctl_core.artifacts.kinds.coresets import load_coreset
from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.errors import ArtifactError, ConfigError, DataError
from apmctl_core.evaluation.coreset import ClassView, labelled
from apmctl_core.evaluation.coresets import CORESETS, choose
from apmctl_core.jobs import Session, distill_set, evaluate_set
from apmctl_core.jobs.commands import coreset_job
from apmctl_core.models import build
from apmctl_core.training.examples import exact_images
from tests.apmctl_core.jobs.conftest import RECIPE, session  # noqa: F401
from tests.helpers import context, toy_dataset, toy_pool

DATA, POOL = toy_dataset(), toy_pool()


class View:
    """A class's images with readings that a test chose."""

    def __init__(self, features: Tensor | None = None, probabilities: Tensor | None = None, label: int = 0) -> None:
        self.features, self.probabilities, self.label = features, probabilities, label


def chosen(name: str, count: int, **readings: Any) -> list[int]:
    view: Any = View(**readings)
    found: list[int] = CORESETS[name](view, count).tolist()
    return found


def test_herding_approaches_the_mean_greedily() -> None:
    features = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double()
    found = chosen("herding", 4, features=features)
    for number in range(1, 5):
        before = found[: number - 1]
        others = [i for i in range(12) if i not in before]
        distances = {i: (features[[*before, i]].mean(0) - features.mean(0)).norm().item() for i in others}
        assert found[number - 1] == min(distances, key=lambda i: distances[i])


def test_k_center_takes_the_farthest_each_time() -> None:
    features = torch.tensor([[0.0, 0], [1, 0], [10, 0], [0, 7], [0.4, 0.2]])
    found = chosen("k-center", 3, features=features)
    assert found == [1, 2, 3]  # the nearest to the mean (2.28, 1.44), then the farthest from what is chosen
    radius = max(min(float((a - features[i]).norm()) for i in found) for a in features)
    best = min(
        max(min(float((a - features[i]).norm()) for i in some) for a in features)
        for some in itertools.combinations(range(5), 3)
    )
    assert radius <= 2 * best  # what the greedy way is known for


@pytest.mark.parametrize("name", ["herding", "k-center"])
def test_equal_images_are_not_chosen_twice(name: str) -> None:
    assert sorted(chosen(name, 4, features=torch.ones(4, 2))) == [0, 1, 2, 3]


def test_confident_and_el2n_are_by_the_mean_of_all_teachers() -> None:
    probabilities = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]]])
    assert chosen("confident", 2, probabilities=probabilities, label=0) == [2, 0]
    assert chosen("confident", 1, probabilities=probabilities, label=1) == [1]
    # Distances from (1, 0) are 1.41 times what the class's probability lacks: 0.5, 0.8 and 0.35 on average.
    assert chosen("el2n", 3, probabilities=probabilities, label=0) == [1, 0, 2]


def test_a_view_has_the_readings_of_the_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, ClassView] = {}

    def look(view: ClassView, count: int) -> Tensor:
        seen[view.label] = view
        return torch.arange(count)

    monkeypatch.setitem(CORESETS, "look", look)
    index = choose("look", 2, DATA, POOL, context(segment=7))
    assert index.tolist() == [0, 1, 20, 21, 40, 41]
    images, _ = exact_images(DATA.train, POOL.preprocessing, torch.arange(20, 40))
    for teacher in range(2):
        network = build(POOL.model, POOL.shape, 3).eval()
        network.load_state_dict(POOL.states[teacher])
        assert torch.allclose(seen[1].probabilities[teacher], network(images).softmax(1), atol=1e-6)
    first = build(POOL.model, POOL.shape, 3).eval()
    first.load_state_dict(POOL.states[0])
    assert torch.allclose(seen[1].features, first.features(images).flatten(1), atol=1e-5)


@pytest.mark.parametrize("name", sorted(CORESETS))
def test_images_are_of_their_class_and_the_same_for_every_segment(name: str) -> None:
    index = choose(name, 3, DATA, POOL, context())
    assert DATA.train.labels[index].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert len(set(index.tolist())) == 9
    assert torch.equal(index, choose(name, 3, DATA, POOL, context(segment=4)))


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(DataError, match="class 'class 0' has 20 images"):
        choose("herding", 21, DATA, POOL, context())


def test_labels_are_those_that_the_pool_gives() -> None:
    index = torch.tensor([3, 30, 50])
    kept = labelled(index, "mean", DATA, POOL, context())
    images, _ = exact_images(DATA.train, POOL.preprocessing, index)
    logits = []
    for state in POOL.states:
        network = build(POOL.model, POOL.shape, 3).eval()
        network.load_state_dict(state)
        logits.append(network(images))
    assert torch.equal(kept.index_DM, index[None])
    assert torch.allclose(kept.logits_DMK[0], torch.stack(logits).mean(0), atol=1e-5)


def test_coresets_stand_beside_a_set_and_are_chosen_once(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    changes = {"baseline": ["herding", "confident"], "labels": ["hard"]}
    report = evaluate_set(session, made.id, changes).artifact
    (row,) = load_report(report).rows
    assert set(row.coresets) == {"herding", "confident"}
    assert row.scores["coreset_gain"] == row.accuracy_mean - max(sum(a) / len(a) for a in row.coresets.values())
    kept = {a.manifest.metrics["method"]: a for a in session.store.list("coreset")}
    assert {name: a.id for name, a in kept.items()} == {n: report.manifest.inputs[n] for n in ("herding", "confident")}
    assert load_coreset(kept["herding"]).index_DM.shape == (1, 10)
    # Another report asks for one of them again: with other epochs, and after another seed of its networks.
    evaluate_set(session, made.id, {**changes, "baseline": ["herding"], "epochs": 3, "seed": 7})
    assert len(session.store.list("coreset")) == 2


def test_all_means_each_of_them_and_an_unknown_one_is_refused(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    with pytest.raises(ConfigError, match=r"`evaluate\.baseline` cannot be 'hreding'") as caught:
        evaluate_set(session, made.id, {"baseline": ["hreding"]})
    assert "did you mean herding" in caught.value.hint
    report = evaluate_set(session, made.id, {"baseline": ["all"], "labels": ["hard"], "epochs": 1}).artifact
    assert set(load_report(report).rows[0].coresets) == set(CORESETS)


def test_a_set_whose_pool_is_gone_has_no_coresets(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    session.store.remove(session.store.find(made.manifest.inputs["pool"]))
    with pytest.raises(ArtifactError, match="there is no pool"):
        evaluate_set(session, made.id, {"baseline": ["herding"]})


def test_a_set_that_names_no_pool_has_no_coresets(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    silent = msgspec.structs.replace(made.manifest, inputs={"data": made.manifest.inputs["data"]})
    with pytest.raises(ArtifactError, match="does not say which pool labelled it"):
        coreset_job(session, Artifact(made.path, silent), "herding")
