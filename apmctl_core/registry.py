"""Registries: things that are known by name, each defined in a file of its own."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Generic, TypeVar

from apmctl_core.errors import ConfigError

T = TypeVar("T")


class Registry(dict[str, T], Generic[T]):
    """Things of one sort by name; `setting` is the path of the setting that chooses one, for the texts of errors."""

    def __init__(self, setting: str) -> None:
        super().__init__()
        self.setting = setting

    def add(self, name: str, thing: T) -> T:
        """Make a thing known. Raises ValueError for a name that is taken."""
        if name in self:
            raise ValueError(f"{name!r} is already registered")
        self[name] = thing
        return thing

    def __missing__(self, name: str) -> T:
        near = difflib.get_close_matches(name, self, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"`{self.setting}` cannot be {name!r}", f"{hint}choose one of: {', '.join(self)}")


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, in the order of their names; call it with `__name__` and `__path__`.

    Modules add what they define to a registry when they are imported.
    """
    for module in sorted(pkgutil.iter_modules(path), key=lambda module: module.name):
        importlib.import_module(f"{package}.{module.name}")
