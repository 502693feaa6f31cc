"""The fields that artifacts differ in, as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apmctl.text import date, reading

_WIDEST = 60


def rows(differences: Mapping[str, Sequence[Any]]) -> list[tuple[str, ...]]:
    """A row of a table for each field: its dotted path, and its value in each artifact."""
    texts = {field.removeprefix("recipe."): _cells(field, values) for field, values in differences.items()}
    # People need not see a byte more or less.
    return [(field, *cells) for field, cells in texts.items() if len(set(cells)) > 1]


def _cells(field: str, row: Sequence[Any]) -> list[str]:
    """Values as people read them."""
    if field == "created":
        return [date(value) for value in row]
    metric = field.rpartition(".")[2]
    texts = ["-" if value is None else reading(metric, value) for value in row]
    return [text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..." for text in texts]
