import pytest
import tomli_w

from apmctl_core.config.presets import PRESETS, TABLE, complete, preset, recipe_for, resolve
from apmctl_core.config.recipe import Recipe, from_dict, read_toml, to_dict
from apmctl_core.errors import ConfigError

CIFAR = (3, 32, 32)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_builds_and_survives_toml(name, tmp_path):
    recipe = preset(name)
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(to_dict(recipe)))
    assert from_dict(Recipe, read_toml(path)) == recipe


def test_all_twelve_rows_of_the_published_table_are_there():
    published = {row.dataset + "-ipc" + str(row.ipc) for row in TABLE}
    assert len(published) == 12
    assert published <= set(PRESETS)
    # Written out from the paper's table A9: image lr, student lr, evaluation epochs, B.
    expected = {
        "cifar10-ipc50": (1, 0.02, 1000, 0),
        "cifar10-ipc500": (1, 0.02, 1000, 2500),
        "cifar10-ipc1000": (1, 0.02, 600, 2500),
        "cifar100-ipc10": (1, 0.02, 1000, 0),
        "cifar100-ipc50": (1, 0.04, 1000, 2500),
        "cifar100-ipc100": (1, 0.04, 600, 2500),
        "tiny-imagenet-ipc10": (20, 0.1, 1000, 500),
        "tiny-imagenet-ipc50": (40, 0.1, 1000, 500),
        "tiny-imagenet-ipc100": (40, 0.1, 600, 500),
        "imagenet-1k-ipc10": (20, 0.1, 1000, 500),
        "imagenet-1k-ipc50": (20, 0.1, 600, 500),
        "imagenet-1k-ipc100": (20, 0.1, 600, 500),
    }
    for name, values in expected.items():
        recipe = preset(name)
        d, e = recipe.distill, recipe.evaluate
        assert (d.image_lr, d.student_lr, e.epochs, d.batch) == values
        assert (d.rounds, d.student_epochs, d.checkpoints, d.refresh_every, d.alpha) == (2500, 250, 5, 3, 0.1)
        assert d.objective == "linear"
        assert recipe.data.preprocessing == ("zca" if name.startswith("cifar") else "standard")


def test_a_data_set_and_an_ipc_of_the_table_get_its_row():
    recipe, origin = recipe_for("cifar100", 50)
    assert recipe == preset("cifar100-ipc50")
    assert origin == "preset cifar100-ipc50"


def test_the_image_rate_scales_with_b_outside_the_table():
    # From CIFAR-10 IPC 50: 1/500 an image; with IPC 10 the whole set is 100 images.
    recipe, _ = resolve("cifar10", flags={"distill": {"ipc": 10}})
    assert complete(recipe, CIFAR, 10).distill.image_lr == pytest.approx(100 / 500)
    halved, _ = resolve("cifar10", flags={"distill": {"ipc": 50, "batch": 250}})
    assert complete(halved, CIFAR, 10).distill.image_lr == pytest.approx(0.5)


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


def test_a_run_without_data_or_with_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="no data set"):
        resolve(None)
    with pytest.raises(ConfigError, match="unknown preset") as caught:
        preset("digit-ipc1")
    assert "digits-ipc1" in caught.value.hint


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
