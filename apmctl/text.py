"""Plain text for people: tables, sizes, durations, and strings from strangers made safe to print."""

from __future__ import annotations

import re
from collections.abc import Sequence

_STEPS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])(I?)B?|B)?", re.IGNORECASE)


def clean(value: object) -> str:
    """A value as text in which nothing controls the terminal: what is not printable is shown escaped."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Aligned columns under their headers; those numbered in `right` are set flush right."""
    cells = [list(headers), *([clean(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    return "\n".join(_row(row, widths, right) for row in cells)


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def pairs(values: Sequence[tuple[str, object]], indent: int = 0) -> str:
    """One `key  value` a line, the values aligned."""
    width = max((len(clean(key)) for key, _ in values), default=0)
    return "\n".join(f"{' ' * indent}{clean(key).ljust(width)}  {clean(value)}".rstrip() for key, value in values)


def size(count: float) -> str:
    """Bytes in the unit that a person would choose."""
    value = float(count)
    for unit in _STEPS[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_STEPS[-1]}"


def parse_size(text: str) -> int | None:
    """The bytes of a size such as 800MB, 1.5 GiB or a plain number; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1 if unit else 0))


def duration(seconds: float) -> str:
    """Seconds as 0.4 s, 42 s, 3:05 min or 2:10 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours}:{rest:02d} h"


def plural(unit: str) -> str:
    """The plural of a unit, whichever of the two is given."""
    return f"{unit.removesuffix('s')}s"


def label(metric: str) -> str:
    """The name of a metric as people read it; the value shows that it is in bytes."""
    return metric.removesuffix("_bytes").replace("_", " ")


def number(value: float) -> str:
    """A reading with four digits that count."""
    return f"{value:.4g}"
