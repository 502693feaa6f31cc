"""What a training sees: every example once an epoch, augmented as a plain loop would."""

import itertools

import pytest
import torch

from apmctl_core.seeding import Stream
from apmctl_core.training import augment, feed
from apmctl_core.training.augment import DSA
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.feed import cuts

COUNT = 23


def source():
    return TensorSource(torch.randn(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(COUNT))


def wanted(epochs, batch, size):
    return list(itertools.chain.from_iterable(cuts(COUNT, batch, size, Stream(0).at("epoch", e)) for e in epochs))


@pytest.mark.parametrize(("batch", "size"), [(23, 23), (23, 5), (10, 10), (10, 4), (1, 1)])
@pytest.mark.parametrize("images", [512, 20])
def test_examples_are_those_of_a_plain_loop(monkeypatch, batch, size, images):
    monkeypatch.setattr(feed, "_BYTES", images * 4 * 3 * 8 * 8)
    found = list(feed.feed(source(), iter(wanted(range(3), batch, size)), augmentation=DSA))
    assert len(found) == len(wanted(range(3), batch, size))
    for cut, (x, target) in zip(wanted(range(3), batch, size), found, strict=True):
        plain = augment.apply(source().images[cut.index], cut.draws)
        assert target.sort().values.tolist() == cut.index.sort().values.tolist()
        torch.testing.assert_close(x[target.argsort()], plain[cut.index.argsort()])


def test_examples_that_are_not_augmented_keep_their_order():
    for cut, (x, target) in zip(
        wanted([0], 10, 4), feed.feed(source(), iter(wanted([0], 10, 4)), augmentation=None), strict=True
    ):
        assert torch.equal(target, cut.index)
        assert torch.equal(x, source().images[cut.index])


def test_an_epoch_has_every_example_once_and_steps_are_cut_into_equal_segments():
    found = wanted([0], 10, 4)
    assert torch.cat([cut.index for cut in found]).sort().values.tolist() == list(range(COUNT))
    assert [len(cut.index) for cut in found] == [4, 4, 2, 4, 4, 2, 3]
    other = wanted([1], 10, 4)
    assert not torch.equal(found[0].index, other[0].index)
    assert not torch.equal(found[0].draws, other[0].draws)


def test_a_step_draws_one_transformation_for_all_its_segments_where_it_is_told_to():
    steps = [[], [], []]
    for cut in cuts(COUNT, 10, 4, Stream(0), dsa="batch"):
        step = next(s for s, size in zip(steps, (10, 10, 3), strict=True) if len(s) < size)
        step.extend(augment.chosen(cut.draws).tolist())
    assert [len(set(step)) for step in steps] == [1, 1, 1]
    assert len({kind for cut in wanted([0], 10, 4) for kind in augment.chosen(cut.draws).tolist()}) > 3


def test_few_images_are_held_at_once():
    read = []

    class Counting(TensorSource):
        def batch(self, index):
            read.append(len(index))
            return super().batch(index)

    images = source()
    list(feed.feed(Counting(images.images, images.targets), iter(wanted([0], 23, 1)), augmentation=DSA))
    assert max(read) == 16
    assert sum(read) == COUNT
