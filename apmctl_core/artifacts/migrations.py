"""Manifests of older schemas, read as the newest. The id of such an artifact has been checked before, as written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TABLES = ("model", "teachers", "distill", "seed", "precision")
_STUDENT = ("epochs", "lr", "momentum", "weight_decay", "batch")
_MOVED = {"preprocessing": "data", "committee": "distill", "width": "model"}


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """`config` becomes a sub-tree of the recipe, the student's settings a table of their own."""
    recipe, config = _table(values, "recipe"), _table(values, "config")
    for name in _TABLES:
        if config.get(name, recipe.get(name)) != recipe.get(name):
            raise ValueError(f"config and recipe differ in {name}")
    recipe, config = _methods(recipe), _sub_tree(_methods(config))
    return values | {"recipe": _resolved(recipe, config), "config": config}


def _from_2(values: dict[str, Any]) -> dict[str, Any]:
    """A manifest had no digest, and teachers the seed of everything.

    One that has a digest is of a later schema, whose number was damaged.
    """
    if "digest" in values:
        raise ValueError("unknown field 'digest'")
    recipe = _table(values, "recipe")
    if "teachers" in recipe and "seed" in recipe:
        recipe["teachers"] = _table(recipe, "teachers") | {"seed": recipe["seed"]}
    return values | {"digest": None, "recipe": recipe}


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the table `name`, empty where there is none."""
    table = values.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not a table")
    return dict(table)


def _methods(tables: dict[str, Any]) -> dict[str, Any]:
    """Recipe or config with the one method and the one protocol that schema 1 had, and the student's table."""
    if "distill" in tables:
        distill = _table(tables, "distill")
        student = {name: distill.pop(f"student_{name}") for name in _STUDENT if f"student_{name}" in distill}
        tables["distill"] = distill | {"method": "apm", "student": student}
    if "evaluate" in tables:
        tables["evaluate"] = _table(tables, "evaluate") | {"protocol": "apm"}
    return tables


def _sub_tree(config: dict[str, Any]) -> dict[str, Any]:
    """The config with settings that stood at its top in the tables that the recipe has them in."""
    for name, parent in _MOVED.items():
        if name in config:
            value, table = config.pop(name), _table(config, parent)
            if table.setdefault(name, value) != value:
                raise ValueError(f"config has two values of {parent}.{name}")
            config[parent] = table
    return config


def _resolved(recipe: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with the networks of an evaluation by their names, as the config of a report always had them."""
    measured = _table(config, "evaluate").get("arch")
    if measured is None:
        return recipe
    evaluate, own = _table(recipe, "evaluate"), str(_table(recipe, "model").get("arch"))
    asked = evaluate.get("arch") or ["auto"]
    if not isinstance(asked, list) or not all(isinstance(arch, str) for arch in asked):
        raise ValueError("evaluate.arch is not a list of names")
    named = list(dict.fromkeys(own if arch == "auto" else arch for arch in asked))
    return recipe | {"evaluate": evaluate | {"arch": measured}} if named == measured else recipe


# Schema n -> the fields of a manifest of schema n as those of schema n + 1. Raises ValueError for a contradiction.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
