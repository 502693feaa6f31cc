"""What a run is said to cost, beside the operations that are counted in one and the tensors that it holds."""

import dataclasses

import pytest

from apmctl_core.config import ApmConfig, TrainConfig
from apmctl_core.methods.apm import Apm
from apmctl_core.models import build, size_of
from apmctl_core.values import Task
from tests.helpers import MODEL, Operations, context, toy_dataset, toy_pool

SHAPE, CLASSES = (3, 8, 8), 3
STUDENT = TrainConfig(epochs=2, batch=2)
CONFIG = ApmConfig(ipc=2, rounds=5, batch=4, refresh_every=2, checkpoints=2, student=STUDENT, image_lr=0.1)


def run(config):
    """The operations of a run, and its last state."""
    method = Apm(toy_dataset(), toy_pool(), config, context())
    state = method.first()
    with Operations() as operations:
        while state.cycle < method.cycles:
            update = method.cycle(state, method.context.segment)
            state.apply(update)
    return operations.count, state


def cost(config):
    return Apm.cost(config, Task(SHAPE, CLASSES, "standard", "fp32"), size_of(MODEL, SHAPE, CLASSES))


@pytest.mark.parametrize("settings", [{}, {"batch": 0}, {"batch": 50}, {"checkpoints": 1}, {"draw": "round"}])
def test_rounds_cost_what_is_counted_in_them(settings):
    """Two runs of as many students, one with twice the rounds."""
    once = dataclasses.replace(CONFIG, rounds=4, **settings)
    twice = dataclasses.replace(once, rounds=8, refresh_every=4)
    assert cost(twice).flops - cost(once).flops == run(twice)[0] - run(once)[0]


@pytest.mark.parametrize("settings", [{}, {"batch": 0}, {"rounds": 2}])
def test_students_cost_about_what_is_counted_in_them(settings):
    """A network's first layer needs no gradient of its images, and is most of so small a network."""
    once = dataclasses.replace(CONFIG, **settings)
    longer = dataclasses.replace(once, student=dataclasses.replace(STUDENT, epochs=6))
    counted, said = run(longer)[0] - run(once)[0], cost(longer).flops - cost(once).flops
    assert 0.75 * said < counted < said


@pytest.mark.parametrize(("draw", "drawn"), [("cycle", 2), ("round", 4)])
def test_memory_holds_all_images_the_copies_of_the_drawn_ones_and_the_checkpoints(draw, drawn):
    config = dataclasses.replace(CONFIG, batch=2, draw=draw)
    _, state = run(config)
    image = state.images[0].nbytes
    weights = sum(value.nbytes for value in build(MODEL, SHAPE, CLASSES).state_dict().values())
    networks = weights * (4 + config.checkpoints)  # the student with gradients and momentum, a teacher
    copies = 4 * drawn * image  # before, now, momentum, gradient
    assert cost(config).fixed_bytes == state.images.nbytes + state.extra["momentum"].nbytes + copies + networks


def test_the_largest_pass_is_a_students_step_or_the_drawn_images():
    assert cost(CONFIG).images == 4
    assert cost(dataclasses.replace(CONFIG, batch=0)).images == 6
    wide = dataclasses.replace(CONFIG, student=dataclasses.replace(STUDENT, batch=256))
    assert cost(wide).images == 4
    assert cost(wide).step_flops == 2 * cost(CONFIG).step_flops > 0
