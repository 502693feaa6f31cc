import pytest
import tomli_w

from apmctl_core.config import Recipe, from_dict, read_toml, to_dict
from apmctl_core.config.presets import PRESETS, TABLE, preset, recipe_for
from apmctl_core.errors import ConfigError


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
        assert (d.image_lr, d.student.lr, e.epochs, d.batch) == values
        assert (d.rounds, d.student.epochs, d.checkpoints, d.refresh_every, d.alpha) == (2500, 250, 5, 3, 0.1)
        assert (d.objective, d.draw) == ("linear", "round")
        assert [t.dsa for t in (recipe.teachers, d.student, e)] == ["batch"] * 3
        assert recipe.data.preprocessing == ("zca" if name.startswith("cifar") else "standard")


def test_a_data_set_and_an_ipc_of_the_table_get_its_row():
    recipe, origin = recipe_for("cifar100", 50)
    assert recipe == preset("cifar100-ipc50")
    assert origin == "preset cifar100-ipc50"


def test_an_unknown_preset_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="unknown preset") as caught:
        preset("digit-ipc1")
    assert "digits-ipc1" in caught.value.hint
