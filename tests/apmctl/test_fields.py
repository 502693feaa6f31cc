"""The options that are fields of the configuration: all of them, in the right table, over preset and file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from apmctl import fields
from apmctl.fields import Settings, Table
from apmctl.signature import takes
from apmctl_core.config import (
    ApmConfig,
    Config,
    DataConfig,
    EvalConfig,
    Field,
    ModelConfig,
    Recipe,
    TeacherConfig,
    TrainConfig,
)
from apmctl_core.errors import ConfigError

from .conftest import Answer


def _given(tables: tuple[Table, ...], *arguments: str) -> Settings:
    """What a command with these tables is handed for a command line."""
    seen: list[Settings] = []

    @takes(fields.settings(tables))
    def command(*, settings: Settings) -> None:
        seen.append(settings)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen[0]


def _sample(f: Field) -> Any:
    """A value that the option of the field takes."""
    return f.choices[-1] if f.choices else {int: 7, float: 0.25, bool: True, str: "convnet2"}[f.type]


_ALL = [(tables, table, f) for tables in (fields.TEACHERS, fields.DISTILL) for table in tables for f in table.fields()]


@pytest.mark.parametrize(("tables", "table", "f"), _ALL, ids=lambda v: getattr(v, "name", ""))
def test_every_field_has_a_flag_that_sets_it(tables: tuple[Table, ...], table: Table, f: Field) -> None:
    value, flag = _sample(f), table.flag(f)
    flags = _given(tables, *([flag] if value is True else [flag, str(value)])).flags
    for name in table.path.split(".") if table.path else ():
        assert list(flags) == [name]
        flags = flags[name]
    assert flags == {f.name: value}


def test_teachers_and_distill_have_all_fields_of_their_tables() -> None:
    def names(tables: tuple[Table, ...], config: type[Config]) -> set[str]:
        return {f.name for table in tables if table.config is config for f in table.fields()}

    def all_of(config: type[Config]) -> set[str]:
        return {f.name for f in config.fields().values() if f.help}

    for config in (DataConfig, ModelConfig, TeacherConfig):
        assert names(fields.TEACHERS, config) == names(fields.DISTILL, config) == all_of(config)
    assert names(fields.TEACHERS, Recipe) | {"seed"} == names(fields.DISTILL, Recipe) == all_of(Recipe)
    assert names(fields.DISTILL, ApmConfig) == all_of(ApmConfig)
    assert names(fields.DISTILL, TrainConfig) == all_of(TrainConfig)
    assert names(fields.EVALUATE, EvalConfig) == all_of(EvalConfig)


def test_nothing_given_is_nothing_set() -> None:
    given = _given(fields.DISTILL)
    assert (given.preset, given.config, given.flags) == (None, None, {})


def test_a_flag_for_on_has_one_for_off() -> None:
    assert _given(fields.DISTILL, "--no-augment-images").flags == {"distill": {"augment_images": False}}


def test_depth_is_short_for_a_network() -> None:
    assert _given(fields.TEACHERS, "--depth", "4").flags == {"model": {"arch": "convnet4"}}
    assert _given(fields.TEACHERS, "--depth", "4", "--arch", "convnet4").flags == {"model": {"arch": "convnet4"}}


def test_depth_and_another_network_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="contradict"):
        _given(fields.TEACHERS, "--depth", "4", "--arch", "convnet3")


def test_repeated_flags_make_a_list() -> None:
    seen: list[dict[str, Any]] = []

    @takes(fields.changes(fields.EVALUATE))
    def command(*, changes: dict[str, Any]) -> None:
        seen.append(changes)

    app = typer.Typer()
    app.command()(command)
    arguments = ["--arch", "convnet2", "--arch", "convnet3", "--labels", "hard", "--repeats", "2", "--seed", "3"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, []).exit_code == 0
    assert seen == [{"arch": ["convnet2", "convnet3"], "labels": ["hard"], "repeats": 2, "seed": 3}, {}]


def test_flags_stand_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("seed = 5\n[distill]\nrounds = 11\nalpha = 0.75\n")
    settings = _given(fields.DISTILL, "--preset", "digits-ipc1", "--config", str(file), "--rounds", "12")
    recipe, origin = settings.recipe(None)
    preset = Settings(preset="digits-ipc1", config=None, flags={}).recipe(None)[0]
    assert (recipe.distill.rounds, recipe.distill.alpha, recipe.seed) == (12, 0.75, 5)
    assert recipe.teachers == preset.teachers
    assert recipe.data.dataset == "digits"
    assert "digits-ipc1" in origin


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[distill]\nround = 3\n", "2: unknown field 'distill.round'", "did you mean 'distill.rounds'?"),
        ("\n[distil]\nrounds = 3\n", "2: unknown field 'distil'", "did you mean 'distill'?"),
        ("distill.student = {epoch = 3}\n", "1: unknown field 'distill.student.epoch'", "'distill.student.epochs'?"),
        ("[distill]\nrounds = 'three'\n", "2: 'distill.rounds' must be a whole number, got 'three'", "from 0 to"),
        ("[distill]\nrounds = -1\n", "2: 'distill.rounds' must be at least 0, got -1", "give a whole number"),
        ("seed = 1\n[distill]\nmethod = 'x'\n", "3: 'distill.method' cannot be 'x'", "choose one of: apm"),
        ("# mine\npreset = 'digits-ipc7'\n", "2: unknown preset 'digits-ipc7'", "did you mean digits-ipc1"),
        ("distill = 3\n", "1: [distill] must be a table, got 3", "below a line [distill]"),
        ("a = 1\nnot toml at all", "2: not TOML", "apmctl presets"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_file_line_and_field(
    cli: Callable[..., Answer], tmp_path: Path, text: str, said: str, hint: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    answer = cli("distill", "digits", "--ipc", "1", "--config", str(file))
    assert answer.code == 2
    assert f"error: {file}:{said}" in answer.err.splitlines()[0]
    assert hint in answer.err.splitlines()[1]
    assert not (tmp_path / "store").exists()


def test_help_says_what_a_field_takes_where_its_type_does_not(cli: Callable[..., Answer]) -> None:
    assert "DIR|FRACTION|none" in cli("distill", "--help").out


def test_a_file_is_not_blamed_for_a_flag(cli: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "good.toml"
    file.write_text("[distill]\nrounds = 3\n")
    answer = cli("distill", "digits", "--config", str(file), "--rounds", "-1")
    assert "good.toml" not in answer.err
    assert "--rounds must be at least 0" in answer.err


@pytest.mark.parametrize("named", [("--preset", "cifar10-laptop-ipc10"), ("--config", "FILE")])
def test_a_preset_of_another_data_set_is_named(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, str]
) -> None:
    from apmctl_core import jobs

    def stop(*arguments: object, **options: object) -> None:
        raise ConfigError("far enough")

    monkeypatch.setattr(jobs, "distill_set", stop)
    file = tmp_path / "my.toml"
    file.write_text("preset = 'cifar10-laptop-ipc10'\n")
    flag, value = named
    arguments = (flag, str(file) if value == "FILE" else value)
    note = "note: preset cifar10-laptop-ipc10 is for cifar10; using it on digits"
    assert note in cli("distill", "digits", *arguments).err.splitlines()
    assert "is for" not in cli("distill", "cifar10", *arguments).err


def test_a_file_that_is_not_there_is_refused(cli: Callable[..., Answer], tmp_path: Path) -> None:
    answer = cli("distill", "digits", "--config", str(tmp_path / "none.toml"))
    assert answer.code == 2
    assert "none.toml" in answer.err


def test_a_command_without_a_data_set_is_refused(cli: Callable[..., Answer]) -> None:
    answer = cli("distill", "--ipc", "1")
    assert answer.code == 2
    assert "data set" in answer.err


@pytest.mark.parametrize("name", ["digits-ipc1", "cifar100-ipc50", "cifar10-laptop-ipc10"])
def test_a_printed_preset_is_a_file_that_config_takes(cli: Callable[..., Answer], tmp_path: Path, name: str) -> None:
    file = tmp_path / "preset.toml"
    file.write_text(cli("presets", name).out)
    from_file = Settings(preset=None, config=file, flags={}).recipe(None)[0]
    assert from_file == Settings(preset=name, config=None, flags={}).recipe(None)[0]
