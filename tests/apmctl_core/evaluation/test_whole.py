"""Networks trained on all real images: one reference for a network, which sets of the same data share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from apmctl_core.artifacts.kinds.reports import load_report
from apmctl_core.errors import ConfigError
from apmctl_core.jobs import Session, distill_set, evaluate_set
from apmctl_core.training.examples import Source
from apmctl_core.training.loop import Trainer
from tests.apmctl_core.jobs.conftest import RECIPE, session  # noqa: F401

CHANGES: dict[str, Any] = {"whole": True, "labels": ["soft", "hard"], "repeats": 2}


def test_sets_of_the_same_data_share_networks_trained_on_all_of_it(session: Session) -> None:  # noqa: F811
    first, other = (distill_set(session, replace(RECIPE, seed=seed)).artifact for seed in (0, 1))
    report = evaluate_set(session, first.id, CHANGES).artifact
    soft, hard = load_report(report).rows
    (reference,) = session.store.list("reference")
    (row,) = load_report(reference, "reference").rows
    assert hard.whole == row.accuracies
    assert len(row.accuracies) == 2
    assert (soft.whole, "whole_epochs" in soft.protocol) == ((), False)
    assert hard.protocol["whole_epochs"] == row.protocol["epochs"] == RECIPE.teachers.epochs
    assert hard.scores["hlr"] == sum(hard.whole) / 2 - hard.accuracy_mean
    assert "lrs" in soft.scores
    assert report.manifest.inputs["whole convnet1"] == reference.id
    # Another set of the seed, with a coreset and soft labels beside: nothing of that concerns the reference.
    again = evaluate_set(session, other.id, {**CHANGES, "seed": 0, "labels": ["hard"], "baseline": ["herding"]})
    assert again.artifact.manifest.inputs["whole convnet1"] == reference.id
    assert len(session.store.list("reference")) == 1


def test_they_see_all_images_as_long_as_the_teachers_did_or_as_asked(
    session: Session,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Source, int]] = []
    right = Trainer.fit

    def fit(self: Trainer, initial: Any, source: Source, config: Any, *more: Any, **options: Any) -> None:
        seen.append((source, config.epochs))
        right(self, initial, source, config, *more, **options)

    made = distill_set(session, RECIPE).artifact
    monkeypatch.setattr(Trainer, "fit", fit)
    changes = {**CHANGES, "labels": ["hard"], "repeats": 1}
    evaluate_set(session, made.id, changes)
    dataset = session.load(RECIPE.data)
    (source, epochs), *rest = seen
    assert (len(source), epochs) == (len(dataset.train), RECIPE.teachers.epochs)
    assert torch.equal(source.batch(torch.arange(5))[1], torch.from_numpy(dataset.train.labels[:5]))
    assert [(len(other), epochs) for other, epochs in rest] == [(10, 2)] * 2
    seen.clear()
    evaluate_set(session, made.id, {**changes, "whole_epochs": 3})
    assert [epochs for _, epochs in seen] == [3, 2, 2]
    assert len(session.store.list("reference")) == 2


def test_without_hard_labels_there_is_nothing_to_compare_with(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    with pytest.raises(ConfigError, match=r"`evaluate\.whole` needs hard labels") as caught:
        evaluate_set(session, made.id, {**CHANGES, "labels": ["soft"]})
    assert "`evaluate.labels`" in caught.value.hint
    assert session.store.list("reference") == []


def test_what_is_switched_off_is_the_same_report_as_what_nobody_asked_for(session: Session) -> None:  # noqa: F811
    made = distill_set(session, RECIPE).artifact
    plain = evaluate_set(session, made.id, {})
    off = evaluate_set(session, made.id, {"whole": False, "unaugmented": False, "whole_epochs": 7})
    assert off.reused
    assert off.artifact.id == plain.artifact.id
