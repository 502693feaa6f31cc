"""What artifacts differ in: their settings first, then their data and what they were made from.

Fields are dotted paths, as `show` prints them; a value that an artifact lacks is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.config import flat

_NAMED = 3  # differences, and values of one, that a sentence has room for


def settings(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """The settings of the recipes that are not the same in all: those that the ids cover come first."""
    recipes = [dict(flat(manifest.recipe)) for manifest in manifests]
    covered = [path for manifest in manifests for path, _ in flat(manifest.config)]
    return different(recipes, covered)


def sources(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """The data and the inputs that are not the same in all."""
    # The input `data` is the fingerprint again.
    inputs = [{name: id for name, id in manifest.inputs.items() if name != "data"} for manifest in manifests]
    return different([dict(flat({"data": m.data, "inputs": i})) for m, i in zip(manifests, inputs, strict=True)])


def origins(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """What the artifacts were made by and from that is not the same in all: recipe, data, inputs."""
    recipe = {f"recipe.{path}": values for path, values in settings(manifests).items()}
    return recipe | sources(manifests)


def between(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """All that is not the same in all, by its dotted path: kind and date, recipe, data, inputs, metrics."""
    heads = different([{"kind": m.kind, "created": m.environment.get("created")} for m in manifests])
    return heads | origins(manifests) | different([dict(flat({"metrics": m.metrics})) for m in manifests])


def different(tables: Sequence[Mapping[str, Any]], first: Iterable[str] = ()) -> dict[str, list[Any]]:
    """The values of each field that is not the same in all tables, those in `first` at the front."""
    fields = dict.fromkeys(field for table in tables for field in table)
    ordered = dict.fromkeys([*(field for field in first if field in fields), *fields])
    values = {field: [table.get(field) for table in tables] for field in ordered}
    return {field: row for field, row in values.items() if any(value != row[0] for value in row)}


def told(chosen: Manifest, others: Sequence[Manifest]) -> str:
    """What sets one artifact apart from others, in part of a line: `seed 1 (others: 0)`."""
    manifests = [chosen, *others]
    parts = apart(settings(manifests) or sources(manifests))
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return ", ".join(parts[:_NAMED]) + more


def apart(fields: Mapping[str, Sequence[Any]]) -> list[str]:
    """What sets the first of several apart in each field, in a few words: `seed 1 (others: 0)`."""
    return [f"{field} {_value(row[0])} (others: {_values(row)})" for field, row in fields.items()]


def _values(row: Sequence[Any]) -> str:
    """The values of the others that are not that of the first."""
    values = list(dict.fromkeys(_value(value) for value in row[1:] if value != row[0]))
    return ", ".join(values[:_NAMED]) + (", ..." if len(values) > _NAMED else "")


def _value(value: Any) -> str:
    whole = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "-" if value is None else " ".join(whole.split())
    return text if len(text) <= 40 else f"{text[:12]}..."
