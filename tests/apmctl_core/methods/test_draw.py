"""Which images a round moves: those drawn once for each student, or anew each round, as the published runs did."""

import dataclasses

import pytest
import torch

from apmctl_core.config import ApmConfig, TrainConfig
from apmctl_core.methods import ImageState
from apmctl_core.methods.apm import Apm
from apmctl_core.methods.matching import Matcher
from tests.helpers import context, toy_dataset, toy_pool

CONFIG = ApmConfig(
    ipc=4,
    rounds=11,
    batch=5,
    refresh_every=3,
    image_lr=0.3,
    image_decay=0.5,
    student=TrainConfig(epochs=1),
    checkpoints=1,
    draw="round",
)
COUNT = 12


@pytest.fixture
def drawn(monkeypatch):
    """The images of each round, as the gradient is asked of them; it is a plain function of an image."""
    rounds = []

    def gradient(self, u, y, *more):
        rounds.append(y.tolist())  # each image has a label of its own here
        return (3 * u).tanh() + 0.1 * y.view(-1, 1, 1, 1), torch.zeros(())

    monkeypatch.setattr(Matcher, "gradient", gradient)
    return rounds


def run(config, *, numbered=True):
    """The images before a run and after it; where they are numbered, each has its number for a label."""
    method = Apm(toy_dataset(), toy_pool(), config, context())
    state = method.first()
    if numbered:
        state.labels = torch.arange(COUNT)
    before = state.images.clone()
    while state.cycle < method.cycles:
        state.apply(method.cycle(state, method.context.segment))
    return before, state.images


def test_images_move_as_the_published_optimiser_moves_them(drawn):
    before, after = run(CONFIG)
    u = before.clone().requires_grad_()
    optimiser = torch.optim.SGD([u], lr=CONFIG.image_lr, momentum=CONFIG.image_momentum)
    for r, index in enumerate(drawn):
        optimiser.param_groups[0]["lr"] = CONFIG.image_lr * (CONFIG.image_decay if r >= CONFIG.rounds / 2 else 1)
        u.grad = torch.zeros_like(u)  # of an image that was not drawn: its momentum moves it on
        u.grad[index] = (3 * u.detach()[index]).tanh() + 0.1 * torch.tensor(index).view(-1, 1, 1, 1)
        optimiser.step()
    assert len(drawn) == CONFIG.rounds
    torch.testing.assert_close(after, u.detach(), atol=1e-5, rtol=0)


def test_each_round_draws_images_of_its_own(drawn):
    run(CONFIG)
    assert all(len(set(index)) == CONFIG.batch for index in drawn)
    assert len({tuple(index) for index in drawn}) > CONFIG.rounds / 2
    assert {image for index in drawn for image in index} == set(range(COUNT))


def test_a_cycles_rounds_share_their_images_where_it_draws_once(drawn):
    config = dataclasses.replace(CONFIG, draw="cycle")
    run(config)
    cycles = [drawn[i : i + 3] for i in range(0, len(drawn), 3)]
    assert all(index == cycle[0] for cycle in cycles for index in cycle)
    assert len({tuple(cycle[0]) for cycle in cycles}) > 1


def test_an_image_that_no_cycle_draws_rests(drawn):
    before, after = run(dataclasses.replace(CONFIG, draw="cycle", rounds=3))
    moved = (after - before).flatten(1).abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == drawn[0]


def test_the_student_learns_the_images_of_the_first_round(drawn, monkeypatch):
    learnt = []

    def student(self, u, *more):
        learnt.append(u.clone())
        return [{}], torch.zeros(())

    monkeypatch.setattr(Apm, "_student", student)
    before, _ = run(CONFIG)
    torch.testing.assert_close(learnt[0], before[drawn[0]])
    assert len(learnt) == 4


def test_both_draws_are_one_where_all_images_are_drawn():
    whole = dataclasses.replace(CONFIG, batch=0)
    (_, by_round), (_, by_cycle) = (
        run(dataclasses.replace(whole, draw=draw), numbered=False) for draw in ("round", "cycle")
    )
    assert torch.equal(by_round, by_cycle)


def test_a_cycle_that_is_done_again_leaves_no_trace():
    """A cycle may be cut short by the memory and begin again: only its result changes the state."""
    method = Apm(toy_dataset(), toy_pool(), CONFIG, context())
    once, twice = method.first(), method.first()
    for state, times in ((once, 1), (twice, 2)):
        for _ in range(2):
            update = [method.cycle(state, method.context.segment) for _ in range(times)][-1]
            ImageState.apply(state, update)
    assert torch.equal(once.images, twice.images)
    assert torch.equal(once.extra["momentum"], twice.extra["momentum"])
