"""The options that are fields of the configuration, made from the fields themselves.

So a command has the flags that its configuration has fields, with nothing written twice.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apmctl.options import SOURCE_PANEL
from apmctl.signature import Group, Values, option
from apmctl_core.config import recipe as cfg
from apmctl_core.config.recipe import DataConfig, DistillConfig, EvalConfig, ModelConfig, Recipe, TeacherConfig, flag_of
from apmctl_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a result, as it was given: `flags` is nested like `to_dict(Recipe)`."""

    preset: str | None
    config: Path | None
    flags: dict[str, Any]
    prefixes: Mapping[str, str] = field(default_factory=dict)  # of the flags of a table of the recipe, e.g. "teacher-"

    def recipe(self, dataset: str | None) -> tuple[Recipe, str]:
        """The recipe for a data set, by preset, file and flags, and where it began. Raises ConfigError."""
        from apmctl_core.config import presets

        toml = cfg.read_toml(self.config) if self.config else None
        try:
            return presets.resolve(dataset, preset_name=self.preset, toml=toml, flags=self.flags)
        except ConfigError as e:
            # The engine names a field's own flag, which here may be another one's.
            message = re.sub("^--", f"--{self.prefixes.get(e.table, '')}", e.message)
            raise ConfigError(message, e.hint) from e


_PRESET = option(
    "preset",
    str | None,
    "--preset",
    metavar="NAME",
    help="Named settings to start from; `apmctl presets` lists them.",
    rich_help_panel=SOURCE_PANEL,
)
_CONFIG = option(
    "config",
    Path | None,
    "--config",
    metavar="FILE",
    help="TOML file over the preset; flags stand over both.",
    rich_help_panel=SOURCE_PANEL,
)
_DEPTH = option(
    "depth", int | None, "--depth", metavar="N", help="Short for --arch convnetN.", rich_help_panel="Network"
)


@dataclass(frozen=True)
class Table:
    """A table of the recipe as options: its name in the recipe (empty: top level), its class, where its help stands."""

    name: str
    config: type
    panel: str
    prefix: str = ""
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def fields(self) -> list[dataclasses.Field[Any]]:
        """The fields that become options: all that have a help text, unless they are left out."""
        named = (f for f in dataclasses.fields(self.config) if "help" in f.metadata and f.name not in self.skip)
        return [f for f in named if not self.only or f.name in self.only]


_DATA_TABLE = Table("data", DataConfig, "Data")
_MODEL_TABLE = Table("model", ModelConfig, "Network")
_GENERAL = Table("", Recipe, "General")

TEACHERS = (_DATA_TABLE, _MODEL_TABLE, Table("teachers", TeacherConfig, "Teachers"), _GENERAL)
DISTILL = (
    Table("distill", DistillConfig, "Distillation"),
    _DATA_TABLE,
    _MODEL_TABLE,
    Table("teachers", TeacherConfig, "Teachers, where a pool must be trained", prefix="teacher-"),
    _GENERAL,
)
EVALUATE = (
    Table("", EvalConfig, "Evaluation"),
    Table("", ModelConfig, "Evaluation", only=("width",)),
    _GENERAL,
)


def settings(tables: tuple[Table, ...]) -> Group:
    """The options of a recipe's tables, beside a preset and a file: the argument `settings`."""
    made = _fields_as_options(tables, "preset's")
    prefixes = {table.name: table.prefix for table in tables}

    def collect(values: Values) -> Settings:
        flags = _nested(made, values)
        _apply_depth(flags, values["depth"])
        return Settings(preset=values["preset"], config=values["config"], flags=flags, prefixes=prefixes)

    return Group("settings", (*(param for _, _, param in made), _DEPTH, _PRESET, _CONFIG), collect)


def changes(tables: tuple[Table, ...]) -> Group:
    """The options of a recipe's tables as changes to the recipe of an artifact: the argument `changes`."""
    made = _fields_as_options(tables, "set's")
    return Group("changes", tuple(param for _, _, param in made), lambda values: _nested(made, values))


_Made = list[tuple[str, str, inspect.Parameter]]


def _fields_as_options(tables: tuple[Table, ...], origin: str) -> _Made:
    made = []
    for table in tables:
        kinds = typing.get_type_hints(table.config)
        for f in table.fields():
            name = f"{table.name}_{f.name}".lstrip("_")
            made.append((table.name, f.name, _field_option(name, f, kinds[f.name], table, origin)))
    return made


def _field_option(name: str, f: dataclasses.Field[Any], kind: Any, table: Table, origin: str) -> inspect.Parameter:
    flag = "--" + table.prefix + flag_of(f).removeprefix("--")
    inner = _inner(kind)
    info: dict[str, Any] = {"help": _help(f, origin), "rich_help_panel": table.panel}
    if inner is bool:
        return option(name, bool | None, f"{flag}/--no-{flag.removeprefix('--')}", **info)
    info["metavar"] = "|".join(f.metadata["choices"]) or _METAVARS[inner]
    return option(name, list[inner] | None if _repeats(kind) else inner | None, flag, **info)  # type: ignore[valid-type]


_METAVARS = {int: "N", float: "X", str: "NAME"}


def _inner(kind: Any) -> type:
    """The type of one value of a field: of `int | None` int, of `tuple[str, ...]` str."""
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return typing.get_args(kind)[0] if _repeats(kind) else kind  # type: ignore[no-any-return]


def _repeats(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _help(f: dataclasses.Field[Any], origin: str) -> str:
    """The help of a field with what holds where the option is not given."""
    text: str = f.metadata["help"]
    if "[default" in text:
        return text
    default = f.default
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, tuple):
        default = ", ".join(default)
    return f"{text} [{origin} or {default}]"


def _nested(made: _Made, values: Values) -> dict[str, Any]:
    """The options that were given, nested as the recipe is."""
    flags: dict[str, Any] = {}
    for table, name, param in made:
        value = values[param.name]
        if value is None or value == []:
            continue
        (flags.setdefault(table, {}) if table else flags)[name] = value
    return flags


def _apply_depth(flags: dict[str, Any], depth: int | None) -> None:
    if depth is None:
        return
    arch = flags.setdefault("model", {}).setdefault("arch", f"convnet{depth}")
    if arch != f"convnet{depth}":
        raise ConfigError(f"--depth {depth} and --arch {arch} contradict each other", "give one of them")
