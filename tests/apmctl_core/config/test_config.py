import dataclasses
from typing import Annotated

import msgspec
import pytest

from apmctl_core.config import (
    METHODS,
    ApmConfig,
    DataConfig,
    DistillConfig,
    EvalConfig,
    Recipe,
    TeacherConfig,
    TrainConfig,
    digest,
    from_dict,
    method_config,
    read_toml,
    subtree,
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
    ("values", "message", "hint"),
    [
        ({"wat": 1}, "unknown field 'wat'", "known here: data, model"),
        ({"distill": {"round": 1}}, "unknown field 'distill.round'", "did you mean 'distill.rounds'?"),
        ({"distill": {"student_lr": 1}}, "unknown field 'distill.student_lr'", "did you mean 'distill.student.lr'?"),
        ({"evaluate": {"labels": []}}, "`evaluate.labels` needs a value", "choose one of: soft, hard"),
        ({"distill": {"student": {"epoch": 1}}}, "unknown field 'distill.student.epoch'", "'distill.student.epochs'"),
        ({"data": {"dataset": 3}}, "`data.dataset` must be a string, got 3", "give a string"),
        ({"distill": {"ipc": "ten"}}, "`distill.ipc` must be a whole number, got 'ten'", "from 1 to 1,000,000,000"),
        ({"distill": {"ipc": True}}, "`distill.ipc` must be a whole number, got True", "from 1"),
        ({"distill": {"ipc": 1.0}}, "`distill.ipc` must be a whole number, got 1.0", "from 1"),
        (
            {"distill": {"ipc": 10**9 + 1}},
            "`distill.ipc` must be at most 1,000,000,000, got 1000000001",
            "from 1 to 1,000,000,000",
        ),
        ({"distill": {"alpha": True}}, "`distill.alpha` must be a finite number, got True", "from 0"),
        ({"distill": {"alpha": float("inf")}}, "`distill.alpha` must be a finite number, got inf", "from 0"),
        ({"distill": {"alpha": float("nan")}}, "`distill.alpha` must be a finite number, got nan", "from 0"),
        ({"distill": {"augment_images": 1}}, "`distill.augment_images` must be true or false, got 1", "true or false"),
        ({"distill": {"image_lr": "big"}}, "`distill.image_lr` must be a finite number, got 'big'", "from 0"),
        ({"distill": []}, "[distill] must be a table, got []", "[distill]"),
        ({"teachers": {"batch": 0}}, "`teachers.batch` must be at least 1, got 0", "from 1 to 1,000,000,000"),
        ({"evaluate": {"labels": "soft"}}, "`evaluate.labels` must be a list, got 'soft'", "soft, hard"),
        ({"evaluate": {"labels": ["soft", "mild"]}}, "`evaluate.labels` cannot be 'mild'", "soft, hard"),
        ({"evaluate": {"arch": [3]}}, "`evaluate.arch` must be a string, got 3", "give a string"),
        ({"distill": {"method": "magic"}}, "`distill.method` cannot be 'magic'", "choose one of: apm"),
        ({"distill": {"method": ["apm"]}}, "`distill.method` cannot be ['apm']", "choose one of: apm"),
    ],
)
def test_what_a_recipe_does_not_take_is_refused_by_its_path(values, message, hint):
    with pytest.raises(ConfigError) as caught:
        from_dict(Recipe, values, RECIPE)
    assert caught.value.message == message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("values", "path"), [({}, "data"), ({"data": {}}, "data.dataset")])
def test_a_missing_value_is_named(values, path):
    with pytest.raises(ConfigError, match=f"`{path}` is missing"):
        from_dict(Recipe, values)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: ApmConfig(ipc=0), "distill.ipc"),
        (lambda: ApmConfig(objective="cubic"), "distill.objective"),
        (lambda: ApmConfig(image_momentum=1.5), "distill.image_momentum"),
        (lambda: ApmConfig(alpha=float("nan")), "distill.alpha"),
        (lambda: ApmConfig(student="fast"), r"\[distill.student\]"),
        (lambda: ApmConfig(checkpoints=6, student=TrainConfig(epochs=5)), "distill.checkpoints"),
        (lambda: dataclasses.replace(ApmConfig(), method="magic"), "distill.method"),
        (lambda: DistillConfig(), "distill.method"),
        (lambda: TrainConfig(lr=-1), "distill.student.lr"),
        (lambda: TeacherConfig(count=0), "teachers.count"),
        (lambda: dataclasses.replace(TeacherConfig(), epochs=True), "teachers.epochs"),
        (lambda: EvalConfig(labels=("mild",)), "evaluate.labels"),
        (lambda: dataclasses.replace(RECIPE, seed=-1), "seed"),
    ],
)
def test_values_given_in_python_are_checked_as_well(make, path):
    with pytest.raises(ConfigError, match=path):
        make()


def test_values_given_in_python_are_held_as_their_fields_declare_them():
    assert type(TeacherConfig(lr=1).lr) is float
    assert EvalConfig(labels=["soft"]).labels == ("soft",)


@pytest.fixture
def mine():
    """A method that only this test knows."""

    @method_config("mine")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MyConfig(DistillConfig):
        method: str = "mine"
        temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0

    yield MyConfig
    del METHODS["mine"]


def test_a_methods_own_config_is_chosen_by_its_name(mine):
    recipe = from_dict(Recipe, {"data": {"dataset": "x"}, "distill": {"method": "mine", "temperature": 2}})
    assert recipe.distill == mine(temperature=2.0)
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    with pytest.raises(ConfigError, match=r"`distill\.temperature` must be at most 10"):
        from_dict(Recipe, {"distill": {"temperature": 11}}, recipe)


def test_another_method_keeps_the_settings_that_both_have(mine):
    base = from_dict(Recipe, {"distill": {"ipc": 3, "checkpoints": 1}}, RECIPE)
    assert from_dict(Recipe, {"distill": {"method": "mine"}}, base).distill == mine(ipc=3)
    with pytest.raises(ConfigError, match=r"unknown field 'distill\.alpha'"):
        from_dict(Recipe, {"distill": {"method": "mine", "alpha": 1}}, base)


def test_a_method_must_be_registered_under_the_name_of_its_field():
    with pytest.raises(TypeError, match="yours"):
        method_config("yours")(ApmConfig)


def test_an_integer_is_taken_for_a_float_but_not_the_other_way_round():
    assert type(from_dict(ApmConfig, {"alpha": 1}).alpha) is float
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


def test_the_digest_of_a_recipe_stays_what_it_was():
    assert digest("set", to_dict(RECIPE), {"data": "f"}) == "41481b60fc4d"
    assert digest("set", {"a": 1}, {}, schema=1) == "f6e3f74eb6c9"


def test_a_subtree_is_nested_as_the_recipe_is_and_leaves_out_what_is_not_set():
    recipe = {"data": {"dataset": "x", "preprocessing": "zca"}, "model": {"width": 8}, "seed": 0}
    picked = subtree(recipe, ("data.preprocessing", "data.resolution", "model", "seed", "evaluate.lr"))
    assert picked == {"data": {"preprocessing": "zca"}, "model": {"width": 8}, "seed": 0}
    assert recipe["data"] == {"dataset": "x", "preprocessing": "zca"}


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
