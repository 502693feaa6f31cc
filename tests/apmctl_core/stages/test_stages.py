"""Teachers, distillation, labelling and evaluation on small data, stage by stage."""

import dataclasses

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from apmctl_core.config import ApmConfig, EvalConfig, TeacherConfig, TrainConfig
from apmctl_core.errors import DataError, Interrupted, NumericsError
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.events import Note
from apmctl_core.machine.segment import Segment
from apmctl_core.methods import METHODS
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.stages.labelling import Labeller, label_images, random_baseline
from apmctl_core.stages.teachers import train_teachers
from apmctl_core.training.checkpoint import Snapshot
from apmctl_core.values import DistilledSet
from tests.helpers import MODEL, context, standard, toy_dataset, toy_pool

STUDENT = TrainConfig(epochs=6, lr=0.02, momentum=0.9, weight_decay=5e-4, batch=256)
CONFIG = ApmConfig(ipc=2, rounds=7, student=STUDENT, checkpoints=3, refresh_every=3, image_lr=0.5, alpha=0.5)


class Memory:
    """A keeper whose states lie in this process, as a disk would have them."""

    def __init__(self):
        self.states = {}

    def load(self, name):
        return self.states.get(name)

    def save(self, name, snapshot):
        tensors = {k: v.clone() for k, v in snapshot.tensors.items()}
        self.states[name] = Snapshot(tensors, dict(snapshot.meta), snapshot.segment)

    def clear(self, name):
        self.states.pop(name, None)


def run(config=CONFIG, seed=0, segment=0, pool=None, **more):
    state = distill(toy_dataset(), pool or toy_pool(), config, context(segment, seed=seed, **more))
    return state.images, state.labels, state.metrics


def test_the_same_seed_gives_the_same_images_and_another_seed_others():
    first, again, other = run()[0], run()[0], run(seed=1)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_are_in_the_order_of_their_classes_and_have_moved():
    images, labels, metrics = run()
    start, _, _ = run(dataclasses.replace(CONFIG, rounds=0))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.shape == (6, 3, 8, 8)
    assert not torch.allclose(images, start)
    assert metrics["moved"] > 0


def test_the_distance_from_the_start_is_in_standard_deviations_of_it():
    images, _, metrics = run()
    for init in ("real", "noise"):
        still = dataclasses.replace(CONFIG, rounds=0, init=init)
        assert run(still)[2]["distance_from_start"] == 0
    start = run(dataclasses.replace(CONFIG, rounds=0))[0]
    expected = float((images - start).square().mean().sqrt() / start.std())
    assert metrics["distance_from_start"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"augment_images": False},
        {"augment_images": True},
        {"augment_images": True, "batch": 3, "draw": "round", "student": dataclasses.replace(STUDENT, dsa="batch")},
    ],
)
@pytest.mark.parametrize("segment", [1, 4])
def test_any_segment_gives_the_same_images(segment, settings):
    config = dataclasses.replace(CONFIG, **settings)
    torch.testing.assert_close(run(config, segment=segment)[0], run(config)[0], atol=1e-4, rtol=0)


def test_only_the_images_drawn_for_a_cycle_change():
    start, *_ = run(dataclasses.replace(CONFIG, rounds=0))
    after, *_ = run(dataclasses.replace(CONFIG, rounds=3, batch=2))
    changed = (after - start).flatten(1).abs().sum(1) > 0
    assert int(changed.sum()) == 2


def test_noise_starts_from_noise_and_real_from_real_images():
    real, *_ = run(dataclasses.replace(CONFIG, rounds=0))
    noise, *_ = run(dataclasses.replace(CONFIG, rounds=0, init="noise"))
    data = toy_dataset()
    known = {tuple(x) for x in standard().forward(torch.from_numpy(data.train.images)).flatten(1).tolist()}
    assert all(tuple(x) in known for x in real.flatten(1).tolist())
    assert not any(tuple(x) in known for x in noise.flatten(1).tolist())


def test_the_first_round_follows_algorithm_1_written_out():
    """One cycle of one round against a plain one: same student, gradient of eq. 4 without the log, one step."""
    config = dataclasses.replace(CONFIG, rounds=1, refresh_every=1, batch=0, image_lr=0.7)
    pool = toy_pool(1)
    method = METHODS["apm"](toy_dataset(), pool, config, context())
    state = method.first()
    u, y = state.images.clone(), state.labels
    checkpoints, _ = method._student(u, pool.states[0], Stream(0).at("cycle", 0).at("student"), Segment())
    seen = u.clone().requires_grad_()
    logits = method._build(0)
    loss = 0.0
    for weights in checkpoints:
        t = torch.func.functional_call(logits, dict(pool.states[0]), (seen,))
        s = torch.func.functional_call(logits, dict(weights), (seen,))
        loss = loss - (t - s).abs().mean(1).mean()
    loss = loss + config.alpha * torch.nn.functional.cross_entropy(t, y)
    loss.backward()
    images, *_ = run(config, pool=pool)
    # The one round is past half of one round, so its rate is the decayed one.
    expected = u - 0.7 * (config.image_decay if config.rounds / 2 <= 0 else 1.0) * seen.grad
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=1e-4)


class Stop:
    """Raises `Interrupted` at the n-th event."""

    def __init__(self, at):
        self.left = at

    def __call__(self, event):
        self.left -= 1
        if self.left == 0:
            raise Interrupted("stopped", signal=15)


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_distillation_ends_in_the_same_bytes(at):
    whole, *_ = run()
    memory = Memory()
    with pytest.raises(Interrupted):
        run(keeper=memory, emit=Stop(at))
    assert memory.states["images"].meta["cycle"] == at
    resumed, *_ = run(keeper=memory)
    assert torch.equal(whole, resumed)


def teachers(**more):
    config = TeacherConfig(count=2, epochs=4, lr=0.05, batch=16)
    return train_teachers(toy_dataset(), standard(), MODEL, config, context(**more))


def test_teachers_learn_and_differ_from_each_other():
    pool, metrics = teachers()
    assert len(pool) == 2
    assert metrics["test_accuracy_mean"] > 0.6
    assert not torch.equal(pool.states[0]["classifier.weight"], pool.states[1]["classifier.weight"])


@pytest.mark.parametrize("at", [2, 4, 6])
def test_interrupted_teachers_end_in_the_same_bytes(at):
    whole, metrics = teachers()
    memory = Memory()
    with pytest.raises(Interrupted):
        teachers(keeper=memory, emit=Stop(at))
    resumed, again = teachers(keeper=memory)
    assert again == metrics
    for a, b in zip(whole.states, resumed.states, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_class_with_too_few_images_is_a_data_error():
    with pytest.raises(DataError, match="class 0"):
        run(dataclasses.replace(CONFIG, ipc=21))


def test_images_that_blow_up_stop_the_run_with_the_last_good_state_kept():
    memory = Memory()
    with pytest.raises(NumericsError, match="round") as caught:
        run(dataclasses.replace(CONFIG, image_lr=1e38, rounds=30), keeper=memory)
    assert "lower" in caught.value.hint
    assert all(torch.isfinite(s.tensors["images"]).all() for s in memory.states.values())


@pytest.mark.parametrize(("settings", "setting"), [({"alpha": 1e6}, "alpha"), ({"image_lr": 1e4}, "image_lr")])
def test_images_that_leave_the_range_of_the_data_are_warned_of_once(settings, setting):
    """They stay finite, and a set of them would be made without a word."""
    events = []
    run(dataclasses.replace(CONFIG, **settings), emit=events.append)
    (warning,) = [event.text for event in events if isinstance(event, Note)]
    assert "images left the range of the data" in warning
    assert f"try a lower `distill.{setting}`" in warning
    quiet = []
    run(emit=quiet.append)
    assert not [event for event in quiet if isinstance(event, Note)]


def test_batch_normalisation_goes_by_batches_of_the_students_in_all_of_a_cycle():
    """Students learn, and are matched with, what the teacher says by statistics of the same kind as their own."""
    pool = toy_pool(model=dataclasses.replace(MODEL, arch="convnet2-batch"))
    seen = set()

    def note(layer, inputs):
        if isinstance(layer, torch.nn.BatchNorm2d):
            seen.add((layer.training, len(inputs[0])))

    config = dataclasses.replace(CONFIG, student=dataclasses.replace(STUDENT, batch=2))
    method, hook = METHODS["apm"](toy_dataset(), pool, config, context()), register_module_forward_pre_hook(note)
    try:
        method.cycle(method.first(), Segment())
    finally:
        hook.remove()
    assert seen == {(True, 2)}


def test_alpha_is_to_blame_where_it_outweighs_the_checkpoints_alone():
    settings = [
        METHODS["apm"](toy_dataset(), toy_pool(), c, context()).brake
        for c in (
            dataclasses.replace(CONFIG, alpha=CONFIG.checkpoints),
            dataclasses.replace(CONFIG, alpha=CONFIG.checkpoints + 0.1),
        )
    ]
    assert settings == ["`distill.image_lr`", "`distill.alpha` or `distill.image_lr`"]


def test_the_hint_for_an_alpha_that_diverges_names_alpha():
    with pytest.raises(NumericsError) as caught:
        run(dataclasses.replace(CONFIG, alpha=1e38, rounds=30))
    assert "`distill.alpha`" in caught.value.hint


def labelled(committee="mean", baseline=True):
    pool, _ = teachers()
    images, labels, _ = run(pool=pool)
    labeller = Labeller(pool, committee, context())
    return DistilledSet(
        images=images,
        logits=labeller(images),
        labels=labels,
        stage=torch.zeros_like(labels),
        classes=toy_dataset().classes,
        preprocessing=standard(),
        baseline=random_baseline(toy_dataset(), 2, labeller, pool, context()) if baseline else None,
    ), pool


def test_the_mean_of_the_committee_is_the_mean_of_its_teachers():
    pool = toy_pool(3)
    images = torch.randn(4, 3, 8, 8)
    mean = Labeller(pool, "mean", context())(images)
    single = [Labeller(dataclasses.replace(pool, states=[s]), "single", context())(images) for s in pool.states]
    torch.testing.assert_close(mean, sum(single) / 3)


def test_the_set_and_the_random_images_are_counted_apart():
    events = []
    pool = toy_pool()
    label_images(run(pool=pool)[0], 2, "mean", toy_dataset(), pool, context(emit=events.append))
    counted = [(e.stage, e.done, e.total) for e in events]
    assert counted == [("label", 6, 6), *(("label random", 6 * draw, 30) for draw in range(1, 6))]


def test_one_labeller_is_one_of_the_teachers():
    pool = toy_pool(3)
    labeller = Labeller(pool, "single", context())
    assert len(labeller.teachers) == 1
    assert labeller.teachers[0] in range(3)


def report(config=None, **more):
    distilled, _ = more.pop("labelled", None) or labelled()
    config = config or EvalConfig(epochs=3, lr=0.05, repeats=2)
    return evaluate(distilled, toy_dataset(), [MODEL], config, context(**more))


def test_a_report_has_a_row_for_each_kind_of_labels_with_random_images_beside():
    rows = report()
    assert [row.labels for row in rows] == ["soft", "hard"]
    for row in rows:
        values = row.document()
        assert len(values["accuracies"]) == len(values["random_accuracies"]) == 2
        assert 0 <= values["accuracy_mean"] <= 1
        assert values["protocol"]["epochs"] == 3
        assert values["protocol"]["images"] == 6
        assert values["scores"]["gain"] == pytest.approx(values["accuracy_mean"] - values["random_accuracy_mean"])


def test_without_a_baseline_there_is_nothing_to_compare_with():
    row = report(labelled=labelled(baseline=False))[0].document()
    assert row["random_accuracy_mean"] is None


def test_an_evaluation_does_not_depend_on_what_ran_before_and_can_be_resumed():
    made = labelled()
    whole = report(labelled=made)
    torch.manual_seed(12345)
    memory = Memory()
    with pytest.raises(Interrupted):
        report(labelled=made, keeper=memory, emit=Stop(3))
    assert report(labelled=made, keeper=memory) == whole


def test_random_images_are_drawn_stratified_and_are_no_part_of_the_set():
    distilled, _ = labelled()
    baseline = distilled.baseline
    labels = torch.from_numpy(toy_dataset().train.labels)
    assert baseline.index_DM.shape == (5, 6)
    assert all(labels[draw].tolist() == [0, 0, 1, 1, 2, 2] for draw in baseline.index_DM)
    assert len({tuple(draw.tolist()) for draw in baseline.index_DM}) == 5
