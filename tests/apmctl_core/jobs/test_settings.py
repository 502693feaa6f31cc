import dataclasses

import numpy as np
import pytest
import torch

from apmctl_core.config import to_dict
from apmctl_core.config.presets import preset
from apmctl_core.data import Split
from apmctl_core.data.fitting import fit_zca, variance
from apmctl_core.errors import ConfigError
from apmctl_core.jobs.settings import complete, resolve
from tests.helpers import toy_dataset

CIFAR = (3, 32, 32)


def test_the_image_rate_scales_with_b_outside_the_table():
    # From CIFAR-10 IPC 50: 1/500 an image; with IPC 10 the whole set is 100 images.
    recipe, _ = resolve("cifar10", flags={"distill": {"ipc": 10}})
    assert complete(recipe, CIFAR, 10).distill.image_lr == pytest.approx(100 / 500)
    halved, _ = resolve("cifar10", flags={"distill": {"ipc": 50, "batch": 250}})
    assert complete(halved, CIFAR, 10).distill.image_lr == pytest.approx(0.5)


def step(dataset="some/folder", images=None, **data):
    """The step of an image where nothing is said of it, lr / B."""
    recipe, _ = resolve(dataset, flags={"data": data, "distill": {"ipc": 2}})
    d = complete(recipe, CIFAR, 10, images).distill
    return d.image_lr / d.drawn(10)


def test_data_without_a_published_row_takes_the_step_of_its_preprocessing():
    """What CIFAR-10's row has is for whitened values, whose variance is a sixteenth of that of standardised ones."""
    assert step() == pytest.approx(20 / 500)  # as Tiny ImageNet
    assert step("cifar10", preprocessing="standard") == pytest.approx(20 / 500)
    assert step("cifar10") == pytest.approx(1 / 500)
    assert step(preprocessing="zca") == pytest.approx(1 / 500)  # the data are not at hand: as natural images


@pytest.mark.parametrize("scale", [1, 4])
def test_the_step_for_whitened_images_follows_their_own_variance(scale):
    images = toy_dataset(per_class=40, classes=3).train.images
    faint = (128 + (images.astype(float) - 128) / scale).astype(np.uint8)
    data = toy_dataset()
    data = dataclasses.replace(data, train=Split(faint, np.arange(len(faint)) % 3))
    white = fit_zca(faint).forward(torch.from_numpy(faint))
    expected = 1 / 500 * float(white.var()) / 0.063
    assert step(images=data, preprocessing="zca") == pytest.approx(expected, rel=0.1)


def test_the_variance_is_that_of_all_classes():
    """Images of a folder lie in the order of their classes: here the first ones are all alike."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 3, 8, 8)).astype(np.uint8)
    noise[:500] = 10
    data = dataclasses.replace(toy_dataset(), train=Split(noise, np.arange(1000) // 500))
    other = dataclasses.replace(data, train=Split(noise[::-1].copy(), data.train.labels))
    assert variance(data, "zca") == pytest.approx(variance(other, "zca"), rel=0.05)


def test_images_that_are_all_alike_have_a_step_that_is_not_zero():
    plain = Split(np.full((24, 3, 8, 8), 99, np.uint8), np.arange(24) % 3)
    assert step(images=dataclasses.replace(toy_dataset(), train=plain), preprocessing="zca") > 0


def test_a_rate_in_a_file_stands_over_another_preprocessing():
    toml = {"preset": "cifar10-ipc50", "distill": {"image_lr": 7.0}}
    recipe, _ = resolve(None, toml=toml, flags={"data": {"preprocessing": "standard"}})
    assert recipe.distill.image_lr == 7.0


def test_fewer_classes_need_a_larger_alpha():
    recipe, _ = resolve("some/folder", flags={"distill": {"ipc": 1}})
    assert [complete(recipe, CIFAR, k).distill.alpha for k in (2, 3, 10, 100, 1000)] == [5, 3.333, 1, 0.1, 0.1]
    given, _ = resolve("some/folder", flags={"distill": {"ipc": 1, "alpha": 0.5}})
    assert complete(given, CIFAR, 3).distill.alpha == 0.5


def test_other_data_take_what_made_small_sets_better_and_published_rows_stay_as_they_are():
    other, published = (resolve(name, flags={"distill": {"ipc": 50}})[0].distill for name in ("a/folder", "cifar10"))
    assert (other.augment_images, other.committee) == (True, "mean")
    assert (published.augment_images, published.committee, published.alpha) == (False, "single", 0.1)


def test_another_preprocessing_is_another_step():
    base = ("cifar10", {"distill": {"ipc": 50}})
    published, _ = resolve(base[0], flags=base[1])
    other, _ = resolve(base[0], flags={**base[1], "data": {"preprocessing": "standard"}})
    assert (published.distill.image_lr, other.distill.image_lr) == (1, None)


def test_an_image_rate_that_is_given_is_left_alone():
    recipe, _ = resolve("cifar10", flags={"distill": {"ipc": 10, "image_lr": 3.0}})
    assert complete(recipe, CIFAR, 10).distill.image_lr == 3.0


def test_flags_stand_over_the_file_and_the_file_over_the_preset():
    toml = {"preset": "digits-ipc1", "distill": {"rounds": 5, "alpha": 0.5}}
    recipe, origin = resolve(None, toml=toml, flags={"distill": {"rounds": 7}})
    assert (recipe.distill.rounds, recipe.distill.alpha) == (7, 0.5)
    assert recipe.teachers == preset("digits-ipc1").teachers
    assert origin == "preset digits-ipc1"


@pytest.mark.parametrize(
    ("shape", "arch"), [((3, 32, 32), "convnet3"), ((3, 64, 64), "convnet4"), ((1, 8, 8), "convnet1")]
)
def test_the_network_of_an_unknown_data_set_follows_its_image_size(shape, arch):
    recipe, _ = resolve("some/folder", flags={"distill": {"ipc": 1}})
    assert complete(recipe, shape, 7).model.arch == arch


def test_a_run_without_data_is_refused():
    with pytest.raises(ConfigError, match="no data set"):
        resolve(None)


def test_a_presets_own_step_an_image_is_what_scales():
    scaled = [
        resolve("digits", preset_name="digits-ipc1", flags={"distill": {"ipc": 2}})[0].distill.image_lr,
        resolve("digits", flags={"distill": {"ipc": 2}})[0].distill.image_lr,
        resolve("digits", toml=to_dict(preset("digits-ipc1")), flags={"distill": {"ipc": 2}})[0].distill.image_lr,
    ]
    assert scaled == pytest.approx([4.0, 4.0, 4.0])
    laptop, _ = resolve(None, preset_name="cifar10-laptop-ipc10", flags={"distill": {"ipc": 20}})
    assert laptop.distill.image_lr == pytest.approx(2.0)


def test_the_data_set_of_the_command_line_stands_over_the_files():
    recipe, _ = resolve("digits", toml={"data": {"dataset": "cifar10"}})
    assert recipe.data.dataset == "digits"


@pytest.mark.parametrize(
    "toml", [{"preset": 5}, {"preset": ["a"]}, {"data": "x"}, {"distill": {"ipc": "3"}}, {"distill": 3}]
)
def test_odd_values_in_a_file_are_config_errors(toml):
    with pytest.raises(ConfigError):
        resolve("digits", toml=toml)
    with pytest.raises(ConfigError):
        resolve(None, toml=toml)


def test_a_preset_goes_to_another_data_set_without_its_image_rate():
    own, origin = resolve("cifar10", preset_name="cifar10-ipc50")
    assert (own, origin) == (preset("cifar10-ipc50"), "preset cifar10-ipc50")
    moved, origin = resolve("digits", preset_name="cifar10-ipc50")
    assert origin == "preset cifar10-ipc50 on digits"
    assert (moved.data.dataset, moved.distill.image_lr) == ("digits", None)
    assert moved.teachers == own.teachers
    assert complete(moved, (1, 8, 8), 10).distill.image_lr is not None


def test_a_preset_that_is_named_stands_over_the_files():
    recipe, origin = resolve(None, preset_name="digits-ipc1", toml={"preset": "cifar10-ipc1"})
    assert (recipe, origin) == (preset("digits-ipc1"), "preset digits-ipc1")


def test_a_file_may_name_the_data_set():
    recipe, origin = resolve(None, toml={"data": {"dataset": "digits"}, "distill": {"ipc": 1}})
    assert recipe.data.dataset == "digits"
    assert resolve("digits", flags={"distill": {"ipc": 1}}) == (recipe, origin)
    with pytest.raises(ConfigError, match=r"\[data\] must be a table"):
        resolve(None, toml={"data": "digits"})


@pytest.mark.parametrize(("batch", "kept"), [(0, 0), (19, 19), (20, 0), (21, 0)])
def test_a_batch_of_all_images_is_all_images_however_many(batch, kept):
    recipe, _ = resolve("digits", flags={"distill": {"ipc": 2, "batch": batch}})
    assert complete(recipe, (1, 8, 8), 10).distill.batch == kept


def test_settings_that_leave_b_as_it_is_leave_the_image_rate():
    recipe, _ = resolve("digits", preset_name="digits-ipc1", flags={"distill": {"rounds": 3, "batch": 10}})
    assert recipe.distill.image_lr == preset("digits-ipc1").distill.image_lr
    assert recipe.distill.rounds == 3
