"""Sizes, durations and readings as people write them, and strings from strangers made safe to print."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime
from typing import Any

_STEPS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])(I?)B?|B)?", re.IGNORECASE)


def clean(value: object) -> str:
    """A value as text in which nothing controls the terminal: what is not printable is shown escaped."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def size(count: float) -> str:
    """Bytes in the unit that a person would choose."""
    step = min(int(math.log10(max(count, 1))) // 3, len(_STEPS) - 1)
    value = count / 1000**step
    return f"{value:.{0 if step == 0 or value >= 100 else 1}f} {_STEPS[step]}"


def parse_size(text: str) -> int | None:
    """The bytes of a size such as 800MB, 1.5 GiB or a plain number; None for what is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1 if unit else 0))


def number(value: float) -> str:
    """A number to four digits, and to three from a thousand on: 0.1235, 120,000, 0.00002."""
    if not math.isfinite(value):
        return str(value)
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    if -4 <= magnitude < 3:
        return f"{value:.4g}"
    rounded = round(value, 2 - magnitude)
    if magnitude < 3:
        return f"{rounded:.{2 - magnitude}f}".rstrip("0")
    return f"{rounded:,.0f}" if magnitude < 15 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as 0.4 s, 42 s, 3:05 min, 2:10 h or 97 days."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 48 * 60:
        days = seconds / 86_400
        return f"{days:.1f} days" if days < 9.95 else f"{days:,.0f} days"
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d} h"
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s" if seconds >= 9.95 else f"{seconds:.1f} s"


_AGES = ((3600, 60, "min"), (86_400, 3600, "h"), (60 * 86_400, 86_400, "d"), (730 * 86_400, 30 * 86_400, "months"))


def date(created: Any) -> str:
    """An ISO date in the local time zone, to the minute; `-` for what is not a date."""
    try:
        return datetime.fromisoformat(created).astimezone().isoformat(" ", "minutes")[:16]
    except (TypeError, ValueError, OverflowError, OSError):  # a stranger's may be anything
        return "-"


def age(created: Any, now: float | None = None) -> str:
    """How long before `now` (seconds since 1970) an ISO date was, e.g. 3 h ago; `-` for what is not a date."""
    try:
        seconds = (time.time() if now is None else now) - datetime.fromisoformat(created).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"
    if seconds < 60:
        return "just now"
    for below, step, unit in _AGES:
        if seconds < below:
            return f"{int(seconds // step)} {unit} ago"
    return f"{int(seconds // (365 * 86_400))} years ago"


_UNITS = ((86_400, "days", 2.0), (3600, "h", 1.5), (60, "min", 1.5), (1, "s", 0.0))  # and from how many on


def _in_unit(seconds: float, down: bool | None = None) -> tuple[str, str]:
    """An estimate in the unit that a person would choose, to two digits, rounded down or up or to the nearest."""
    length, unit, _ = next(each for each in _UNITS if seconds >= each[0] * each[2])
    value = seconds / length
    digits = 1 if value < 9.5 and length > 1 else 0 if value < 100 else 1 - math.floor(math.log10(value))
    scaled = value * 10.0**digits
    whole = round(scaled) if down is None else math.floor(scaled + 1e-9) if down else math.ceil(scaled - 1e-9)
    return f"{whole / 10.0**digits:,.1f}".removesuffix(".0"), unit


def about(seconds: float) -> str:
    """An estimated time: about 25 min, about 97 days."""
    return "about " + " ".join(_in_unit(seconds))


def span(low: float, high: float) -> str:
    """A range of estimated times, rounded outwards: 12 to 25 min, 45 s to 2 min, 70 to 140 days."""
    (first, unit), (last, other) = _in_unit(low, True), _in_unit(high, False)
    if (first, unit) == (last, other):
        return f"about {first} {unit}"
    return f"{first} to {last} {unit}" if unit == other else f"{first} {unit} to {last} {other}"


def plural(unit: str) -> str:
    """The plural of a unit given in the singular or the plural."""
    return f"{unit.removesuffix('s')}s"


def label(metric: str) -> str:
    """The name of a metric as people read it; `reading` shows bytes with their unit."""
    return metric.removesuffix("_bytes").replace("_", " ")


def reading(metric: str, value: Any) -> str:
    """The value of a metric, in the unit that its name gives."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if metric.endswith("bytes"):
        return size(value)
    return duration(value) if metric == "seconds" else number(value)


def count(quantity: int, unit: str) -> str:
    """A quantity and its unit, in the plural where it is not one."""
    return f"{quantity} {unit.removesuffix('s') if quantity == 1 else plural(unit)}"
