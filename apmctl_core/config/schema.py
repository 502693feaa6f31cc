"""The kit of the configuration: a field's type, bounds, choices and help are declared once, in its annotation.

E.g. `width: Annotated[int, Meta(ge=1, le=4096), "Filters in each block of the network."] = 128`.

msgspec decides what a field takes: it imports in a tenth of pydantic's time and takes no bool for a number
(docs/log.md). The texts of the errors are ours: they name the path of the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec

from apmctl_core.errors import ConfigError

SCHEMA_VERSION = 3  # of manifests
_ID_SCHEMA = 2  # the latest that changed what `digest` covers: ids have been the same since
FINITE = sys.float_info.max  # the bound of a number that has no other one
_WORDS = {int: "a whole number", float: "a finite number", str: "a string", bool: "true or false"}


@dataclass(frozen=True)
class Field:
    """A field of a config class: `type` is that of one value, `many` says that it takes a list of them."""

    name: str
    annotation: Any
    default: Any  # dataclasses.MISSING where a value must be given
    type: Any
    many: bool
    choices: tuple[str, ...]
    bounds: msgspec.Meta
    help: str

    @property
    def metavar(self) -> str:
        """What help shows for a value, where the field's annotation says it."""
        return str((self.bounds.extra or {}).get("metavar", ""))

    def read(self, value: Any, base: Any, path: str) -> Any:
        """A plain value as the field holds it. Raises ConfigError where the field does not take it."""
        if isinstance(self.type, type) and issubclass(self.type, Config):
            return value if isinstance(value, self.type) else from_dict(self.type, value, base, path)
        try:
            return msgspec.convert(value, self.annotation)
        except msgspec.ValidationError as e:
            raise self._refusal(value, path) from e

    def _refusal(self, value: Any, path: str) -> ConfigError:
        if self.many and not isinstance(value, (list, tuple)):
            return ConfigError(f"`{path}` must be a list, got {value!r}", self._range(), field=path)
        problems = map(self._problem, value if self.many else (value,))
        return ConfigError(f"`{path}` {next(filter(None, problems), 'needs a value')}", self._range(), field=path)

    def _problem(self, item: Any) -> str | None:
        """What is wrong with one value, None for one that the field takes."""
        if self.choices:
            return None if item in self.choices else f"cannot be {item!r}"
        kinds = (int, float) if self.type is float else (self.type,)
        if type(item) not in kinds or (isinstance(item, float) and not math.isfinite(item)):
            return f"must be {_WORDS[self.type]}, got {item!r}"
        low, high = self.bounds.ge, self.bounds.le
        if low is not None and item < low:
            return f"must be at least {_bound(low)}, got {item}"
        return f"must be at most {_bound(high)}, got {item}" if high is not None and item > high else None

    def _range(self) -> str:
        if self.choices:
            return f"choose one of: {', '.join(self.choices)}"
        low = f" from {_bound(self.bounds.ge)}" if self.bounds.ge is not None else ""
        high = f" to {_bound(self.bounds.le)}" if self.bounds.le not in (None, FINITE) else ""
        return f"give {_WORDS[self.type]}{low}{high}"


def _bound(value: float) -> str:
    """A bound as people write it: 1,000,000,000."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


class Config:
    """Base of the config classes, which are frozen, keyword-only dataclasses: every value is checked when it is set."""

    path: ClassVar[str] = ""

    def __init_subclass__(cls, path: str | None = None) -> None:
        """`path` is where an instance stands in a recipe, for the texts of errors; a subclass inherits it."""
        cls.path = cls.path if path is None else path

    @classmethod
    @functools.cache
    def fields(cls) -> dict[str, Field]:
        """The fields by name."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: _field(f, hints[f.name]) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        for field in self.fields().values():
            value = field.read(getattr(self, field.name), None, _join(self.path, field.name))
            object.__setattr__(self, field.name, value)

    @classmethod
    def paths(cls) -> list[str]:
        """The dotted paths of all fields, those of tables below included."""
        inner = {name: f.type for name, f in cls.fields().items() if isinstance(f.type, type)}
        below = [f"{n}.{path}" for n, kind in inner.items() if issubclass(kind, Config) for path in kind.paths()]
        return [*cls.fields(), *below]

    @classmethod
    def variant(cls, values: dict[str, Any], base: Any) -> type[Config]:  # noqa: ARG003
        """The class that `values` over `base` are an instance of."""
        return cls if base is None else type(base)


T = TypeVar("T", bound=Config)


def _field(f: dataclasses.Field[Any], annotation: Any) -> Field:
    kind, declared, many = _parts(annotation)
    choices = typing.get_args(kind)
    bounds = next((each for each in declared if isinstance(each, msgspec.Meta)), msgspec.Meta())
    help = next((each for each in declared if isinstance(each, str)), "")
    default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    return Field(f.name, annotation, default, str if choices else kind, many, choices, bounds, help)


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """The type of one value, what is declared of it, and whether there are several."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _parts(next(arg for arg in args if arg is not type(None)))
    if origin is typing.Annotated:
        kind, declared, many = _parts(args[0])
        return kind, declared + args[1:], many
    if origin is tuple:
        return *_parts(args[0])[:2], True
    return annotation, (), False


def to_dict(config: Config) -> dict[str, Any]:
    """A config as nested plain values; fields that are None are left out, since TOML has no null."""
    values = {name: getattr(config, name) for name in config.fields()}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def from_dict(cls: type[T], values: Any, base: T | None = None, path: str = "") -> T:
    """A config from nested plain values, over `base` or the defaults.

    Raises ConfigError for an unknown field, a value of the wrong type or one out of bounds.
    """
    if not isinstance(values, dict):
        hint = f"write the fields below a line [{path}]"
        raise ConfigError(f"[{path}] must be a table, got {values!r}", hint, field=path)
    kind = cls.variant(values, base)
    fields = kind.fields()
    kept = {name: getattr(base, name) for name in fields if hasattr(base, name)}
    changes = {}
    for name, value in values.items():
        if name not in fields:
            # In plain quotes: what a file has need not be a setting of the command.
            near = difflib.get_close_matches(str(name).replace("_", "."), kind.paths(), 1)
            hint = f"did you mean {_join(path, near[0])!r}?" if near else f"known here: {', '.join(fields)}"
            unknown = _join(path, str(name))
            raise ConfigError(f"unknown field {unknown!r}", hint, field=unknown)
        changes[name] = fields[name].read(value, kept.get(name), _join(path, name))
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in kept | changes:
            raise ConfigError(f"`{_join(path, name)}` is missing")
    return typing.cast(T, kind(**(kept | changes)))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def digest(kind: str, config: dict[str, Any], inputs: dict[str, str], schema: int = SCHEMA_VERSION) -> str:
    """The id of an artifact: sha256 over kind, schema, config and the digests of its inputs, 12 hex digits."""
    return sha256({"kind": kind, "schema": min(schema, _ID_SCHEMA), "config": config, "inputs": inputs})[:12]


def sha256(values: dict[str, Any]) -> str:
    """The sha256 (hex) of plain values, by their canonical JSON. Raises ValueError for a number that is not finite."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def subtree(recipe: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The parts of a recipe's plain values at dotted paths, nested as they are there; what is not set is left out."""
    picked: dict[str, Any] = {}
    for path in paths:
        *tables, name = path.split(".")
        source = functools.reduce(lambda values, table: values.get(table, {}), tables, recipe)
        if name in source:
            functools.reduce(lambda values, table: values.setdefault(table, {}), tables, picked)[name] = source[name]
    return picked


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as pairs of a dotted path and a value."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
