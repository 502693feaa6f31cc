"""What every method has: the first state of the images, and how the result of a cycle gets into a state."""

import dataclasses
import signal

import pytest
import torch

from apmctl_core.config import ApmConfig, TrainConfig
from apmctl_core.errors import Interrupted, NumericsError
from apmctl_core.machine import interrupts
from apmctl_core.machine.segment import Segment
from apmctl_core.methods import METHODS, ImageState, Method, Update, method
from apmctl_core.methods.matching import Matcher
from tests.helpers import context, standard, toy_dataset, toy_pool

CONFIG = ApmConfig(ipc=2, rounds=4, batch=4, refresh_every=2, checkpoints=1, student=TrainConfig(epochs=1), image_lr=1)


class Still(Method):
    """Leaves the images as they are."""

    cycles = 1

    def rounds(self, cycles):
        return cycles

    def cycle(self, state, segment):
        return Update(index=torch.tensor([0]), images=state.images[:1])

    @classmethod
    def cost(cls, config, task, size):
        raise NotImplementedError


def first(seed=0, kind=Still, **settings):
    return kind(toy_dataset(), toy_pool(), dataclasses.replace(CONFIG, **settings), context(seed=seed)).first()


@pytest.mark.parametrize("init", ["real", "noise"])
def test_the_first_images_depend_on_the_seed_and_on_nothing_else(init):
    one = first(init=init)
    torch.manual_seed(123)
    again, other = first(init=init), first(1, init=init)
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    assert (one.images.shape, one.labels.tolist()) == ((6, 3, 8, 8), [0, 0, 1, 1, 2, 2])
    assert (one.cycle, one.metrics) == (0, {})


def test_real_images_are_of_the_class_of_their_place():
    data, state = toy_dataset(), first()
    real = standard().forward(torch.from_numpy(data.train.images))
    for image, label in zip(state.images, state.labels.tolist(), strict=True):
        assert label in {int(data.train.labels[i]) for i in range(len(real)) if torch.equal(real[i], image)}


def test_a_method_keeps_nothing_beside_an_image_unless_it_says_so():
    assert first().extra == {}
    momentum = first(kind=METHODS["apm"]).extra["momentum"]
    assert momentum.shape == (6, 3, 8, 8)
    assert not momentum.any()


def test_a_method_is_known_by_its_name(monkeypatch):
    monkeypatch.setitem(METHODS, "still", None)
    del METHODS["still"]
    assert method("still")(Still) is Still
    assert METHODS["still"] is Still


def state_of(count=3):
    return ImageState(torch.zeros(count, 1), torch.arange(count), {"kept": torch.zeros(count, 2)}, Segment())


def test_a_cycles_result_goes_to_the_images_that_it_drew_and_what_moves_the_others_comes_first():
    state = state_of()
    update = Update(
        index=torch.tensor([2, 0]),
        images=torch.tensor([[5.0], [7.0]]),
        extra={"kept": torch.tensor([[1.0, 2.0], [3.0, 4.0]])},
        metrics={"loss": 1.5},
        others=lambda state: state.images.fill_(-1),
    )
    state.apply(update)
    assert state.images.tolist() == [[7], [-1], [5]]
    assert state.extra["kept"].tolist() == [[3, 4], [0, 0], [1, 2]]
    assert (state.cycle, state.metrics) == (1, {"loss": 1.5})


def test_a_signal_in_the_midst_of_a_result_waits_until_it_is_whole():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    state = state_of()
    signalling = Update(
        index=torch.tensor([1]),
        images=torch.tensor([[5.0]]),
        others=lambda state: signal.raise_signal(signal.SIGTERM),
    )
    interrupts.install()
    try:
        with pytest.raises(Interrupted):
            state.apply(signalling)
    finally:
        interrupts.restore()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (state.images.tolist(), state.cycle) == ([[0], [5], [0]], 1)


# --- what APM hands to the matcher


@pytest.fixture
def draws(monkeypatch):
    """The draws of the augmentation in each round."""
    seen = []

    def gradient(self, u, y, teacher, checkpoints, segment, draws):
        seen.append(draws)
        return torch.zeros_like(u), torch.zeros(())

    monkeypatch.setattr(Matcher, "gradient", gradient)
    return seen


def run(**settings):
    apm = METHODS["apm"](toy_dataset(), toy_pool(), dataclasses.replace(CONFIG, **settings), context())
    state = apm.first()
    while state.cycle < apm.cycles:
        state.apply(apm.cycle(state, apm.context.segment))
    return apm, state


def test_images_are_augmented_anew_in_each_round_where_they_are_to_be(draws):
    run(augment_images=True)
    assert [part.shape for part in draws] == [(4, 4)] * 4
    assert len({tuple(part.flatten().tolist()) for part in draws}) == 4
    assert all(len(set(part[:, 0].tolist())) == 4 for part in draws)
    del draws[:]
    run(augment_images=True, student=dataclasses.replace(CONFIG.student, dsa="batch"))
    assert all(len(set(part[:, 0].tolist())) == 1 for part in draws)
    del draws[:]
    run(augment_images=False)
    assert draws == [None] * 4


def test_checkpoints_are_taken_at_equal_intervals_and_the_last_one_is_the_student():
    student = TrainConfig(epochs=7)
    apm, state = run(student=student, checkpoints=7)
    kept = {}
    for count in (7, 3, 1):
        apm._config = dataclasses.replace(apm._config, checkpoints=count)
        kept[count], loss = apm._student(state.images, toy_pool().states[0], apm.context.stream, Segment())
        assert 0 < float(loss) < 10
    whole = [weights["classifier.weight"] for weights in kept[7]]
    assert len(whole) == 7
    assert not torch.equal(whole[0], whole[1])
    for count, epochs in ((3, [2, 5, 7]), (1, [7])):
        taken = [weights["classifier.weight"] for weights in kept[count]]
        assert all(torch.equal(a, whole[epoch - 1]) for a, epoch in zip(taken, epochs, strict=True))


def test_the_last_cycle_has_what_rounds_are_left():
    apm, _ = run(rounds=5)
    assert apm.cycles == 3
    assert [apm.rounds(n) for n in range(4)] == [0, 2, 4, 5]


@pytest.mark.parametrize(
    ("broken", "loss", "where", "setting"),
    [
        ([3], 1.0, "in round 4, segment 1", "distill.image_lr"),
        ([5, 1], 1.0, "in round 4, segment 0", "distill.image_lr"),
        ([], float("inf"), "in round 4$", "distill.student.lr"),
        ([2], float("nan"), "in round 4, segment 1", "distill.student.lr"),
    ],
)
def test_what_is_no_longer_finite_is_told_by_its_round_and_segment(broken, loss, where, setting):
    apm, state = run(rounds=0)
    images = state.images.clone()
    images[broken, 0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match=where) as caught:
        apm._check({"student_loss": loss, "match_loss": 0.0}, images, 4, Segment(limit=2))
    assert f"`{setting}`" in caught.value.hint
