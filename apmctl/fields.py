"""The options that are fields of the configuration, made from the fields themselves.

So a command has the flags that its configuration has fields, with nothing written twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apmctl.signature import SOURCE_PANEL, Group, Values, option, together
from apmctl_core import config as configs
from apmctl_core.config import Config, Field, Recipe
from apmctl_core.errors import ConfigError
from apmctl_core.events import Emit, silent


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a result, as it was given: `flags` is nested like `to_dict(Recipe)`."""

    preset: str | None
    config: Path | None
    flags: dict[str, Any]

    def recipe(self, dataset: str | None, emit: Emit = silent) -> tuple[Recipe, str]:
        """The recipe for a data set, by preset, file and flags, and where it began. Raises ConfigError."""
        from apmctl_core.jobs.settings import resolve

        toml = configs.read_toml(self.config) if self.config else None
        return resolve(dataset, preset_name=self.preset, toml=toml, flags=self.flags, file=self.config, emit=emit)


_PRESET_HELP = "Named settings to start from; `apmctl presets` lists them."
_PRESET = option(SOURCE_PANEL, "--preset", str | None, _PRESET_HELP, metavar="PRESET")
_CONFIG_HELP = "TOML file over the preset; flags override both."
_CONFIG = option(SOURCE_PANEL, "--config", Path | None, _CONFIG_HELP, metavar="FILE")
_DEPTH = option("Network", "--depth", int | None, "Short for --arch convnetN.", rare=True, metavar="N")


@dataclass(frozen=True)
class Table:
    """A table of the recipe as options: its path in the recipe (empty: top level), its class, where its help stands.

    `common` are the fields that help shows (None: all); the others stand in `--help-all` alone.
    """

    path: str
    config: type[Config]
    panel: str
    prefix: str = ""
    only: tuple[str, ...] = ()
    common: tuple[str, ...] | None = None
    nested: bool = True  # whether the values given stand in a table of their own

    def fields(self) -> list[Field]:
        """The fields that become options: all that have a help text, or those named."""
        return [f for f in self.config.fields().values() if f.help and (not self.only or f.name in self.only)]

    def flag(self, field: Field) -> str:
        """The flag of a field, e.g. `--student-lr`."""
        return f"--{self.prefix}{field.name}".replace("_", "-")


_DATA = Table("data", configs.DataConfig, "Data")
_MODEL = Table("model", configs.ModelConfig, "Network")
_GENERAL = Table("", Recipe, "General", common=("seed",))

# Teachers have a seed of their own.
_PRECISION = Table("", Recipe, "General", only=("precision",), common=())
_OF_DISTILL, _OF_TEACHERS = ("ipc", "rounds", "image_lr", "alpha"), ("count", "epochs", "lr", "seed")
_OF_EVALUATE = ("protocol", "arch", "labels", "baseline", "whole", "repeats", "interval", "epochs")
_IF_TRAINED, _TRAINED = "Teachers, if a pool must be trained", ("count", "epochs", "seed")
TEACHERS = (_DATA, _MODEL, Table("teachers", configs.TeacherConfig, "Teachers", common=_OF_TEACHERS), _PRECISION)
DISTILL = (
    *(Table("distill", config, "Distillation", common=_OF_DISTILL) for config in configs.METHODS.values()),
    Table("distill.student", configs.TrainConfig, "Students", prefix="student_", common=("epochs",)),
    _DATA,
    _MODEL,
    Table("teachers", configs.TeacherConfig, _IF_TRAINED, prefix="teacher_", common=_TRAINED),
    _GENERAL,
)
EVALUATE = (
    Table("evaluate", configs.EvalConfig, "Evaluation", nested=False, common=_OF_EVALUATE),
    Table("model", configs.ModelConfig, "Evaluation", only=("width",), nested=False),
    _GENERAL,
)


def settings(tables: tuple[Table, ...]) -> Group:
    """The options of a recipe's tables, beside a preset and a file: the argument `settings`."""
    options = _options(tables, "preset's")

    def collect(values: Values) -> Settings:
        flags = _nested(options, values)
        _apply_depth(flags, values["depth"])
        return Settings(preset=values["preset"], config=values["config"], flags=flags)

    return together("settings", (*(each for _, _, each in options), _DEPTH, _PRESET, _CONFIG), collect)


def changes(tables: tuple[Table, ...], origin: str = "set's") -> Group:
    """The options of a recipe's tables as changes to that of an artifact, the `origin`: the argument `changes`."""
    options = _options(tables, origin)
    return together("changes", (each for _, _, each in options), lambda values: _nested(options, values))


def flags_of(tables: tuple[Table, ...]) -> dict[str, str]:
    """The flag of each field by its path in the recipe."""
    flags = {f"{table.path}.{f.name}".lstrip("."): table.flag(f) for table in tables for f in table.fields()}
    return {"model.arch": flags["evaluate.arch"], **flags} if "evaluate.arch" in flags else flags


_Options = list[tuple[Table, Field, Group]]


def _options(tables: tuple[Table, ...], origin: str) -> _Options:
    # Methods share fields: one option sets that of whichever is chosen.
    fields = {(table.path, f.name): (table, f) for table in tables for f in table.fields()}
    return [(table, f, _option(table, f, origin)) for table, f in fields.values()]


def _option(table: Table, f: Field, origin: str) -> Group:
    flag, help = table.flag(f), _help(f, origin)
    rare = table.common is not None and f.name not in table.common
    if f.type is bool:
        return option(table.panel, f"{flag}/--no-{flag.removeprefix('--')}", bool | None, help, rare=rare)
    kind = list[f.type] | None if f.many else f.type | None  # type: ignore[name-defined]
    metavar = f.metavar or "|".join(f.choices) or {int: "N", float: "X", str: "NAME"}[f.type]
    return option(table.panel, flag, kind, help, rare=rare, metavar=metavar)


def _help(f: Field, origin: str) -> str:
    """The help of a field with what holds where the option is not given."""
    if "[default" in f.help:
        return f.help
    default = f.default
    if f.many:
        default = ", ".join(default) or "none"
    elif f.type is bool:
        default = "on" if default else "off"
    return f"{f.help} [{origin} or {default}]"


def _nested(options: _Options, values: Values) -> dict[str, Any]:
    """The options that were given, nested as the recipe is."""
    flags: dict[str, Any] = {}
    for table, f, each in options:
        value = values[each.name]
        if value is None or value == []:
            continue
        target = flags
        for name in table.path.split(".") if table.path and table.nested else ():
            target = target.setdefault(name, {})
        target[f.name] = value
    return flags


def _apply_depth(flags: dict[str, Any], depth: int | None) -> None:
    if depth is None:
        return
    arch = flags.setdefault("model", {}).setdefault("arch", f"convnet{depth}")
    if arch != f"convnet{depth}":
        raise ConfigError(f"--depth {depth} and --arch {arch} contradict each other", "give one of them")
