import dataclasses

import pytest

from apmctl_core.config import (
    ApmConfig,
    DataConfig,
    EvalConfig,
    Recipe,
    TeacherConfig,
    TrainConfig,
    digest,
    from_dict,
    read_toml,
    to_dict,
)
from apmctl_core.errors import ConfigError

RECIPE = Recipe(data=DataConfig(dataset="digits"))


def test_a_recipe_survives_the_way_through_plain_values():
    assert from_dict(Recipe, to_dict(RECIPE)) == RECIPE


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.distill.ipc = 3


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"data": {"dataset": "x"}, "wat": 1}, "wat"),
        ({"data": {"dataset": "x", "oops": 1}}, "data.oops"),
        ({"data": {"dataset": 3}}, "data.dataset"),
        ({"data": {"dataset": "x"}, "distill": {"ipc": "ten"}}, "distill.ipc"),
        ({"data": {"dataset": "x"}, "distill": {"ipc": True}}, "distill.ipc"),
        ({"data": {"dataset": "x"}, "distill": []}, "distill"),
        ({"data": {"dataset": "x"}, "evaluate": {"labels": "soft"}}, "evaluate.labels"),
        ({}, "data"),
    ],
)
def test_what_a_recipe_does_not_know_is_refused_by_name(values, named):
    with pytest.raises(ConfigError, match=named):
        from_dict(Recipe, values)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: ApmConfig(ipc=0), "`distill.ipc`"),
        (lambda: ApmConfig(objective="cubic"), "`distill.objective`"),
        (lambda: ApmConfig(image_momentum=1.5), "`distill.image_momentum`"),
        (lambda: ApmConfig(alpha=float("nan")), "`distill.alpha`"),
        (lambda: ApmConfig(checkpoints=6, student=TrainConfig(epochs=5)), "`distill.checkpoints`"),
        (lambda: TeacherConfig(count=0), "`teachers.count`"),
        (lambda: EvalConfig(labels=("mild",)), "`evaluate.labels`"),
    ],
)
def test_values_out_of_bounds_are_refused_by_their_path(make, path):
    with pytest.raises(ConfigError, match=path):
        make()


def test_an_integer_is_taken_for_a_float_but_not_the_other_way_round():
    assert from_dict(ApmConfig, {"alpha": 1}).alpha == 1.0
    with pytest.raises(ConfigError, match="ipc"):
        from_dict(ApmConfig, {"ipc": 1.0})


def test_values_over_a_base_change_only_what_they_name():
    changed = from_dict(Recipe, {"distill": {"ipc": 7}}, RECIPE)
    assert changed.distill == dataclasses.replace(RECIPE.distill, ipc=7)
    assert changed.teachers == RECIPE.teachers


def test_the_digest_depends_on_kind_config_and_inputs_and_not_on_the_order_of_keys():
    base = digest("set", {"a": 1, "b": 2}, {"data": "x"})
    assert base == digest("set", {"b": 2, "a": 1}, {"data": "x"})
    assert len({base, digest("pool", {"a": 1, "b": 2}, {"data": "x"}), digest("set", {"a": 1}, {"data": "x"})}) == 3
    assert base != digest("set", {"a": 1, "b": 2}, {"data": "y"})
    assert len(base) == 12


def test_a_file_that_is_missing_or_no_toml_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("= 3")
    with pytest.raises(ConfigError, match="not TOML"):
        read_toml(bad)
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(bad)
