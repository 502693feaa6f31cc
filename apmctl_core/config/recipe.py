"""The configuration of a run: frozen dataclasses, checked when they are made, TOML in and out, and their digest.

A `Recipe` holds everything that decides a result. What does not decide it (device, segment, compilation,
names) lives in `runtime.Runtime` and never enters a digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from apmctl_core.errors import ConfigError

SCHEMA_VERSION = 2

T = TypeVar("T")

_MOST = 10**9  # of whatever is counted: more is a slip of the hand


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str | None = None,
) -> Any:
    """A field with its help text, bounds and, where it differs from the field's name, its flag."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices, "flag": flag})


def flag_of(f: dataclasses.Field[Any]) -> str:
    """The command-line flag of a config field, e.g. `--student-lr`."""
    return f.metadata.get("flag") or "--" + f.name.replace("_", "-")


def _check_value(f: dataclasses.Field[Any], value: Any) -> None:
    meta = f.metadata
    if "help" not in meta or value is None:
        return
    flag = flag_of(f)
    for item in value if isinstance(value, tuple) else (value,):
        if meta["choices"] and item not in meta["choices"]:
            raise ConfigError(f"{flag} cannot be {item!r}", f"choose one of: {', '.join(meta['choices'])}")
        if isinstance(item, float) and not math.isfinite(item):
            raise ConfigError(f"{flag} must be a finite number, got {item}", _range(meta))
        if meta["low"] is not None and item < meta["low"]:
            raise ConfigError(f"{flag} must be at least {meta['low']:g}, got {item:g}", _range(meta))
        if meta["high"] is not None and item > meta["high"]:
            raise ConfigError(f"{flag} must be at most {meta['high']:g}, got {item:g}", _range(meta))


def _range(meta: Mapping[str, Any]) -> str:
    low, high = meta["low"], meta["high"]
    if low is None:
        return "give a number"
    return f"give {low:g} or more" if high is None else f"give a value from {low:g} to {high:g}"


class _Checked:
    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            _check_value(f, getattr(self, f.name))


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Checked):
    dataset: str
    resolution: int | None = option(None, "Side of the square images in pixels [default: the data set's own].", low=4)
    preprocessing: str = option("standard", "Space that networks train in.", choices=("zca", "standard"))


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Checked):
    arch: str = option("auto", "Network: convnet1 to convnet6; auto: as deep as the images allow, up to 4x4 pixels.")
    width: int = option(128, "Filters in each block of the network.", low=1, high=4096)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(_Checked):
    count: int = option(10, "Teachers in the pool.", low=1, high=1000)
    epochs: int = option(
        100, "Epochs a teacher trains; the learning rate drops tenfold at half of them.", low=1, high=_MOST
    )
    lr: float = option(0.05, "Learning rate of the teachers.", low=0)
    momentum: float = option(0.9, "Momentum of the teachers' SGD.", low=0, high=1)
    weight_decay: float = option(5e-4, "Weight decay of the teachers' SGD.", low=0)
    batch: int = option(256, "Images a step of teacher training.", low=1, high=_MOST)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(_Checked):
    ipc: int = option(10, "Synthetic images a class.", low=1, high=_MOST)
    rounds: int = option(2500, "R: updates of the images.", low=0, high=_MOST)
    student_epochs: int = option(250, "E: epochs a student trains before it is matched.", low=1, high=_MOST)
    checkpoints: int = option(5, "Kc: checkpoints kept of a student, at equal intervals.", low=1, high=_MOST)
    refresh_every: int = option(3, "G: rounds that share a student.", low=1, high=_MOST)
    batch: int = option(0, "B: images drawn for a refresh cycle (0: all of them).", low=0, high=_MOST)
    alpha: float = option(0.1, "Weight of the teacher's cross-entropy.", low=0)
    image_lr: float | None = option(
        None, "Learning rate of the images; the step of one image is this over B [default: scaled with B].", low=0
    )
    image_momentum: float = option(0.5, "Momentum of the images' SGD.", low=0, high=1)
    image_decay: float = option(0.3, "Factor on the images' learning rate after half of the rounds.", low=0)
    student_lr: float = option(0.02, "Learning rate of the students.", low=0)
    student_momentum: float = option(0.9, "Momentum of the students' SGD.", low=0, high=1)
    student_weight_decay: float = option(5e-4, "Weight decay of the students' SGD.", low=0)
    student_batch: int = option(256, "Images a step of student training.", low=1, high=_MOST)
    objective: str = option("linear", "Discrepancy in the images' loss: d or log d (eq. 4).", choices=("linear", "log"))
    init: str = option("real", "Where the images start: real images or noise.", choices=("real", "noise"))
    augment_images: bool = option(False, "Show the images augmented (DSA) to the networks when updating them, too.")
    committee: str = option(
        "single", "Who labels the finished images: one teacher, or the mean of all.", choices=("single", "mean")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoints > self.student_epochs:
            raise ConfigError(
                f"--checkpoints {self.checkpoints} is more than --student-epochs {self.student_epochs}",
                "a student has at most one checkpoint an epoch",
            )


@dataclass(frozen=True, kw_only=True)
class EvalConfig(_Checked):
    epochs: int = option(
        1000, "Epochs a network trains on the set; the rate drops tenfold at half of them.", low=1, high=_MOST
    )
    lr: float = option(0.02, "Learning rate of the evaluation.", low=0)
    momentum: float = option(0.9, "Momentum of the evaluation's SGD.", low=0, high=1)
    weight_decay: float = option(5e-4, "Weight decay of the evaluation's SGD.", low=0)
    batch: int = option(256, "Images a step of evaluation.", low=1, high=_MOST)
    repeats: int = option(5, "Networks trained from random weights for each row.", low=1, high=_MOST)
    labels: tuple[str, ...] = option(
        ("soft", "hard"), "Labels to train on (repeat the option for several).", choices=("soft", "hard")
    )
    arch: tuple[str, ...] = option(
        (), "Networks to train (repeat for several); auto is that of the set [default: auto]."
    )


@dataclass(frozen=True, kw_only=True)
class Recipe(_Checked):
    """Everything that decides the result of teachers, distill and eval on one data set."""

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    teachers: TeacherConfig = field(default_factory=TeacherConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    evaluate: EvalConfig = field(default_factory=EvalConfig)
    seed: int = option(0, "Seed of every random draw.", low=0, high=10**18)
    precision: str = option(
        "auto", "Arithmetic of the networks; auto: bf16 where the device has it.", choices=("auto", "fp32", "bf16")
    )


# --- plain values in and out -------------------------------------------------------------------------------------


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values; fields that are None are left out, since TOML has no null."""
    values = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        if value is not None:
            values[f.name] = value
    return values


def _coerce(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list")
        return tuple(_coerce(v, item, where) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} must be {kind.__name__}, got {type(value).__name__} {value!r}")
    return value


def from_dict(cls: type[T], values: Any, base: T | None = None, where: str = "") -> T:
    """A config from nested plain values, over `base` or the defaults.

    Raises ConfigError for an unknown field, a value of the wrong type or one out of bounds.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the configuration'} must be a table")
    kinds = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{where}.{name}" if where else name
        if name not in known:
            raise ConfigError(f"unknown field {full!r}", f"known here: {', '.join(known)}")
        if dataclasses.is_dataclass(kinds[name]):
            changes[name] = from_dict(kinds[name], value, getattr(base, name, None), full)
        else:
            changes[name] = _coerce(value, kinds[name], full)
    missing = [n for n, f in known.items() if n not in changes and _is_required(f)]
    if missing and base is None:
        raise ConfigError(f"missing field {missing[0]!r}" + (f" in {where}" if where else ""))
    try:
        return cls(**changes) if base is None else dataclasses.replace(base, **changes)  # type: ignore[type-var]
    except ConfigError as e:
        e.table = e.table or where
        raise


def _is_required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file. Raises ConfigError where it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {path}: {e}", "give the path of a TOML file to --config") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not TOML: {e}", "`apmctl presets NAME` prints a file to start from") from e


def canonical_json(value: Any) -> str:
    """The one spelling of a value that digests are taken of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(kind: str, config: dict[str, Any], inputs: dict[str, str]) -> str:
    """The id of an artifact: sha256 over kind, schema, config and the digests of its inputs, 12 hex digits."""
    text = canonical_json({"kind": kind, "schema": SCHEMA_VERSION, "config": config, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()[:12]
