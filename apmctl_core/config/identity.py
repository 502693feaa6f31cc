"""What identifies a result: the canonical spelling of its configuration, and the digest of that."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any

SCHEMA_VERSION = 2


def canonical_json(value: Any) -> str:
    """The one spelling of a value that digests are taken of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(kind: str, config: dict[str, Any], inputs: dict[str, str], schema: int = SCHEMA_VERSION) -> str:
    """The id of an artifact: sha256 over kind, schema, config and the digests of its inputs, 12 hex digits."""
    text = canonical_json({"kind": kind, "schema": schema, "config": config, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def subtree(recipe: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The parts of a recipe's plain values at dotted paths, nested as they are there; what is not set is left out."""
    picked: dict[str, Any] = {}
    for path in paths:
        *tables, name = path.split(".")
        source = functools.reduce(lambda values, table: values.get(table, {}), tables, recipe)
        if name in source:
            functools.reduce(lambda values, table: values.setdefault(table, {}), tables, picked)[name] = source[name]
    return picked
