"""What networks of an evaluation are trained on, what is told of them, and what they cost."""

import dataclasses

import pytest
import torch

from apmctl_core.config import EvalConfig, ModelConfig
from apmctl_core.errors import ConfigError, Interrupted, NumericsError
from apmctl_core.evaluation import evaluate as evaluation
from apmctl_core.evaluation.evaluate import evaluate
from apmctl_core.evaluation.trial import Bench
from apmctl_core.events import Progress
from apmctl_core.intervals import of_mean
from apmctl_core.machine import runtime
from apmctl_core.models import NetworkSize, size_of
from apmctl_core.training.context import Context
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.values import Baseline, DistilledSet, Task
from tests.helpers import MODEL, Operations, context, standard, toy_dataset

DATA = toy_dataset()
CONFIG = EvalConfig(epochs=2, lr=0.05, batch=4, repeats=2)
WIDER = ModelConfig(arch="convnet1", width=16)


def distilled(draws=2):
    """Two images a class; those of the baseline are the first and the last of each class, in turn."""
    rng = torch.Generator().manual_seed(0)
    index = torch.tensor([[0, 1, 20, 21, 40, 41], [19, 18, 39, 38, 59, 58]])[:draws]
    return DistilledSet(
        images=torch.randn(6, 3, 8, 8, generator=rng),
        logits=torch.randn(6, 3, generator=rng),
        labels=torch.tensor([0, 0, 1, 1, 2, 2]),
        stage=torch.zeros(6, dtype=torch.int64),
        classes=DATA.classes,
        preprocessing=standard(),
        baseline=Baseline(index_DM=index, logits_DMK=torch.randn(draws, 6, 3, generator=rng)) if draws else None,
    )


@pytest.fixture
def trained(monkeypatch):
    """The images and targets that each network is trained on."""
    sources = []
    right = Trainer.fit

    def fit(self, initial, source, *more, **options):
        sources.append(source)
        right(self, initial, source, *more, **options)

    monkeypatch.setattr(Trainer, "fit", fit)
    return sources


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_networks_learn_the_set_and_then_each_draw_of_real_images_under_the_same_labels(trained, labels):
    s = distilled()
    evaluate(s, DATA, [MODEL], dataclasses.replace(CONFIG, labels=(labels,), repeats=3), context())
    real = standard().forward(torch.from_numpy(DATA.train.images))
    for source in trained[:3]:
        assert torch.equal(source.images, s.images)
        assert torch.equal(source.targets, s.logits if labels == "soft" else s.labels)
    for repeat, source in enumerate(trained[3:]):
        index = s.baseline.index_DM[repeat % 2]
        assert torch.equal(source.images, real[index])
        targets = s.baseline.logits_DMK[repeat % 2] if labels == "soft" else torch.from_numpy(DATA.train.labels)[index]
        assert torch.equal(source.targets, targets)
    assert len(trained) == 6


@pytest.mark.parametrize("draws", [0, 2])
def test_progress_counts_the_networks_of_all_rows(draws):
    events = []
    models = [MODEL, WIDER]
    rows = evaluate(distilled(draws), DATA, models, CONFIG, context(emit=events.append))
    total = 2 * 2 * CONFIG.repeats * (2 if draws else 1)
    assert [(e.done, e.total, e.stage, e.unit) for e in events if isinstance(e, Progress)] == [
        (done, total, "evaluate", "network") for done in range(1, total + 1)
    ]
    told = [e.metrics["accuracy"] for e in events]
    assert told == [value for row in rows for value in (*row.accuracies, *row.random_accuracies)]
    assert [(row.arch, row.labels) for row in rows] == [(m.arch, labels) for m in models for labels in CONFIG.labels]


def test_every_network_has_draws_of_its_own():
    """One seed gives the same networks again; no two of a report begin alike."""
    initial = []
    right = Trainer.fit

    def fit(self, weights, *more, **options):
        initial.append(weights["classifier.weight"].clone())
        right(self, weights, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        first = evaluate(distilled(), DATA, [MODEL], CONFIG, context())
        assert evaluate(distilled(), DATA, [MODEL], CONFIG, context()) == first
    assert all(torch.equal(a, b) for a, b in zip(initial[:8], initial[8:], strict=True))
    assert len({tuple(weights.flatten().tolist()) for weights in initial}) == 8


def test_a_row_says_how_it_was_measured():
    config = dataclasses.replace(CONFIG, labels=("hard",))
    (row,) = evaluate(distilled(), DATA, [WIDER], config, context())
    said = row.protocol
    assert (said["name"], said["networks"], said["width"], said["epochs"]) == ("apm", 2, 16, 2)
    assert (said["images"], said["random_draws"], said["test_images"]) == (6, 2, 30)
    assert (said["precision"], said["selection"], said["loss"]) == ("fp32", "last epoch", "cross-entropy")
    assert row.scores == dict.fromkeys(("gain", "ior"), row.accuracy_mean - row.random_accuracy_mean)


def test_without_random_images_a_row_has_no_gain_and_no_draws():
    row = evaluate(distilled(0), DATA, [MODEL], CONFIG, context())[0]
    assert (row.scores, row.random_accuracies, row.protocol["random_draws"]) == ({}, (), 0)


def test_a_training_that_diverges_is_named():
    config = dataclasses.replace(CONFIG, lr=1e30, epochs=4)
    with pytest.raises(NumericsError, match=r"training of convnet2/8/soft, distilled, network 0 diverged") as caught:
        evaluate(distilled(), DATA, [MODEL], config, context())
    assert "`evaluate.lr`" in caught.value.hint


class Kept:
    """A keeper that an interruption follows after `left` networks."""

    def __init__(self, left=99):
        self.left, self.snapshot = left, None

    def load(self, name):
        return self.snapshot

    def save(self, name, snapshot):
        self.snapshot = dataclasses.replace(snapshot, meta={"accuracies": dict(snapshot.meta["accuracies"])})
        self.left -= 1
        if self.left == 0:
            raise Interrupted("stopped", signal=15)


def test_without_augmentation_the_set_and_random_images_are_trained_once_more(monkeypatch):
    seen = []
    right = Trainer.fit

    def fit(self, *more, **options):
        seen.append(self.procedure.augmentation is not None)
        right(self, *more, **options)

    monkeypatch.setattr(Trainer, "fit", fit)
    config = dataclasses.replace(CONFIG, labels=("hard",), unaugmented=True)
    events = []
    (row,) = evaluate(distilled(), DATA, [MODEL], config, context(emit=events.append))
    assert seen == [True] * 4 + [False] * 4
    assert {name: len(values) for name, values in row.unaugmented.items()} == {"distilled": 2, "random": 2}
    assert (events[-1].done, events[-1].total) == (8, 8)
    assert 0 < row.scores["ars"] < 1
    (plain,) = evaluate(distilled(), DATA, [MODEL], dataclasses.replace(CONFIG, labels=("hard",)), context())
    assert (plain.accuracies, plain.unaugmented) == (row.accuracies, {})
    (beside,) = evaluate(distilled(), DATA, [MODEL], config, context(), {"herding": distilled(1).baseline})
    assert (list(beside.coresets), list(beside.unaugmented)) == (["herding"], ["distilled", "random"])


@pytest.fixture
def accuracies(monkeypatch):
    """Accuracies that alternate around a half, a tenth to either side, without training."""
    measured = []

    def accuracy(self, trial, segment):
        measured.append(trial)
        return 0.6 if trial.repeat % 2 else 0.4

    monkeypatch.setattr(Bench, "accuracy", accuracy)
    return measured


def test_networks_are_added_until_the_interval_is_narrow(accuracies):
    events = []
    config = dataclasses.replace(CONFIG, labels=("hard",), interval=0.05)
    (row,) = evaluate(distilled(), DATA, [MODEL], config, context(emit=events.append))
    number = len(row.accuracies)
    low, high = of_mean(row.accuracies)
    assert (high - low) / 2 <= 0.05 < (of_mean(row.accuracies[:-2])[1] - of_mean(row.accuracies[:-2])[0]) / 2 + 0.01
    assert len(row.random_accuracies) == row.protocol["networks"] == number
    assert row.protocol["interval"] == 0.05
    assert len(accuracies) == 2 * number == len({trial.key for trial in accuracies})
    assert (events[-1].done, events[-1].total) == (2 * number, 2 * number)
    # One that is wide enough already takes no more.
    (wide,) = evaluate(distilled(), DATA, [MODEL], dataclasses.replace(config, interval=0.5, repeats=4), context())
    assert len(wide.accuracies) == 4


def test_an_interval_begins_with_networks_enough_to_have_one(accuracies):
    config = dataclasses.replace(CONFIG, labels=("hard",), interval=0.5, repeats=1)
    assert len(evaluate(distilled(), DATA, [MODEL], config, context())[0].accuracies) == 3


def test_an_interval_out_of_reach_ends_with_a_warning(accuracies):
    events = []
    config = dataclasses.replace(CONFIG, labels=("hard",), interval=0.001)
    (row,) = evaluate(distilled(), DATA, [MODEL], config, context(emit=events.append))
    assert len(row.accuracies) == 200
    assert "200 networks leave an interval wider than 0.001" in events[-1].text


def test_accuracies_that_are_kept_are_not_measured_again(trained):
    kept = Kept(3)
    with pytest.raises(Interrupted):
        evaluate(distilled(), DATA, [MODEL], CONFIG, context(keeper=kept))
    assert len(trained) == 3
    events = []
    whole = evaluate(distilled(), DATA, [MODEL], CONFIG, context(keeper=kept, emit=events.append))
    assert len(trained) == 8
    assert [event.done for event in events] == [4, 5, 6, 7, 8]
    assert kept.snapshot.progress == events[-1]
    assert whole == evaluate(distilled(), DATA, [MODEL], CONFIG, context())


def test_memory_is_looked_at_after_the_first_epoch_of_each_network(monkeypatch):
    """A network that takes too much begins again in shorter segments, while little is lost."""
    looked = []
    monkeypatch.setattr(Context, "checkpoint", lambda self, segment: looked.append(segment))
    evaluate(distilled(0), DATA, [MODEL], dataclasses.replace(CONFIG, labels=("soft",)), context(4))
    assert [segment.limit for segment in looked] == [4, 4]


@pytest.mark.parametrize("workers", [None, 2])
def test_networks_on_all_real_images_train_one_after_the_other_with_all_threads(monkeypatch, workers):
    monkeypatch.setattr(runtime, "_THREADS", 2)
    task = Task((3, 32, 32), 10, "standard", "fp32", 50_000, 10_000)
    model = ModelConfig(arch="convnet3", width=32)  # its steps are small enough for several networks at once
    heavy = evaluation.cost_of_whole(EvalConfig(epochs=20), task, size_of(model, task.shape, 10))
    before = torch.get_num_threads()
    try:
        found = runtime.resolve("cpu", compile=False, segment=0, workers=workers).for_cost(heavy)
        assert (found.workers, torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)


def test_the_cost_is_about_what_is_counted():
    """A network's first layer needs no gradient of its images, and is most of so small a network."""
    task = Task((3, 8, 8), 3, "standard", "fp32", train=60, test=30)
    longer = dataclasses.replace(CONFIG, epochs=6)
    counted = []
    for config in (CONFIG, longer):
        with Operations() as operations:
            evaluate(distilled(), DATA, [MODEL], dataclasses.replace(config, labels=("soft",)), context())
        counted.append(operations.count)
    said = [evaluation.cost(config, 6, task, [size_of(MODEL, task.shape, 3)]).flops for config in (CONFIG, longer)]
    assert 0.75 * (said[1] - said[0]) < counted[1] - counted[0] < said[1] - said[0]
    tests = 1.5 * said[0] - 0.5 * said[1]  # what does not grow with the epochs
    assert tests == pytest.approx(1.5 * counted[0] - 0.5 * counted[1], rel=0.01)


def test_the_heaviest_network_bounds_the_machine():
    task = Task((3, 8, 8), 3, "standard", "fp32", train=60, test=30)
    small, large = (size_of(model, task.shape, 3) for model in (WIDER, ModelConfig(arch="convnet2", width=64)))
    both, alone = evaluation.cost(CONFIG, 6, task, [small, large]), evaluation.cost(CONFIG, 6, task, [large])
    assert (both.flops, both.step_flops, both.fixed_bytes) == (alone.flops, alone.step_flops, alone.fixed_bytes)
    assert both.image_bytes == max(size.cost(task, passes=0, step=0).image_bytes for size in (small, large))
    assert both.images == CONFIG.batch
    assert evaluation.cost(dataclasses.replace(CONFIG, batch=100), 6, task, [small]).images == 6
    sets = 2 * 6 * task.image_bytes  # the set's images, and the random ones
    assert both.fixed_bytes == sets + large.cost(task, passes=0, step=0).fixed_bytes
    bound = NetworkSize(multiply_adds=1.0, activations=1.0, weights=1, depends_on_batch=True)
    assert evaluation.cost(CONFIG, 6, task, [bound, large]).whole == CONFIG.batch
    assert both.whole == 1


@pytest.mark.parametrize("interval", [None, 0.05])
def test_networks_that_are_measured_at_once_are_each_measured_and_kept_once(accuracies, interval):
    asked = []

    def at_once(trials):
        asked.append([trial.key for trial in trials])
        for trial in reversed(trials):  # in whatever order they end
            yield trial, 0.6 if trial.repeat % 2 else 0.4

    config = dataclasses.replace(CONFIG, interval=interval)
    kept = Kept(999)
    rows = evaluate(distilled(), DATA, [MODEL, WIDER], config, context(keeper=kept), at_once=at_once)
    assert accuracies == []
    assert rows == evaluate(distilled(), DATA, [MODEL, WIDER], config, context())
    assert len(asked[0]) == 2 * 2 * 2 * CONFIG.repeats  # all that is known to be wanted, of all rows
    keys = [key for keys in asked for key in keys]
    assert len(keys) == len(set(keys)) == len(kept.snapshot.meta["accuracies"])
    assert evaluate(distilled(), DATA, [MODEL, WIDER], config, context(keeper=kept), at_once=lambda _: 1 / 0) == rows


class Rated:
    """Accuracies by the learning rate: the set likes 0.5 best, random images 0.1; what is tested on is kept."""

    def __init__(self):
        self.best = {"distilled": 0.5, "random": 0.1}
        self.trials = []

    def __call__(self, bench, trial, segment):
        self.trials.append(trial)
        return 0.9 - abs(trial.lr - self.best[trial.images]) if trial.held_out else trial.lr


def test_learning_rates_are_chosen_for_each_kind_of_images_on_held_out_ones(monkeypatch):
    rated, events = Rated(), []
    monkeypatch.setattr(Bench, "accuracy", lambda *given: rated(*given))
    config = dataclasses.replace(CONFIG, labels=("hard",), rates=(0.1, 0.5, 0.9), lr=7.0)
    (row,) = evaluate(distilled(), DATA, [MODEL], config, context(emit=events.append))
    assert (row.accuracies, row.random_accuracies) == ((0.5, 0.5), (0.1, 0.1))
    assert (row.protocol["lr"], row.protocol["chosen_lr"]) == (0.5, "distilled 0.5, random 0.1")
    searched = [trial for trial in rated.trials if trial.held_out]
    assert [(trial.images, trial.lr) for trial in searched] == [
        (images, lr) for images in ("distilled", "random") for lr in (0.1, 0.5, 0.9)
    ]
    assert (events[-1].done, events[-1].total) == (10, 10)
    assert len({trial.key for trial in rated.trials}) == 10


def test_what_chooses_is_neither_trained_on_nor_the_test_split(trained, monkeypatch):
    tested = []
    right = Predictor.accuracy

    def accuracy(self, source, segment):
        tested.append(source)
        return right(self, source, segment)

    monkeypatch.setattr(Predictor, "accuracy", accuracy)
    config = dataclasses.replace(CONFIG, labels=("hard",), rates=(0.01, 0.05), repeats=1)
    s = distilled()
    evaluate(s, DATA, [MODEL], config, context())
    real = standard().forward(torch.from_numpy(DATA.train.images))
    used = real[s.baseline.index_DM[0]]
    own, again, random, _ = held_out = [source.batch(torch.arange(len(source)))[0] for source in tested[:4]]
    assert [len(source) for source in tested[4:]] == [30, 30]
    assert len(own) == len(DATA.train) // 5
    assert torch.equal(own, again)  # the same for every rate
    assert all(any(torch.equal(a, b) for b in own) for a in random)
    assert not any(torch.equal(a, b) for a in random for b in used)
    assert all(any(torch.equal(a, b) for b in real) for a in torch.cat(held_out))
    again = evaluate(s, DATA, [MODEL], config, context())
    assert again == evaluate(s, DATA, [MODEL], config, context())
    plain = evaluate(s, DATA, [MODEL], dataclasses.replace(config, rates=None, lr=again[0].protocol["lr"]), context())
    assert plain[0].accuracies == again[0].accuracies  # the network is that of its rate, however that was found


def test_where_no_image_is_left_to_choose_by_it_is_said():
    s = distilled()
    every = Baseline(index_DM=torch.arange(60)[None], logits_DMK=torch.zeros(1, 60, 3))
    config = dataclasses.replace(CONFIG, rates=(0.01, 0.05))
    with pytest.raises(ConfigError, match="no training images are left") as caught:
        evaluate(dataclasses.replace(s, baseline=every), DATA, [MODEL], config, context())
    assert "`evaluate.lr`" in caught.value.hint
