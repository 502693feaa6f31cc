"""JSON from strangers: bounded before it is parsed, and nothing that two readers could understand differently.

The standard library parses: msgspec is faster, but keeps the last of two equal keys, and neither limits depth and count
nor refuses control characters, so every check below would remain.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from apmctl_core.errors import ArtifactError
from apmctl_core.storage.files import DAMAGED_HINT

MAX_DEPTH = 32
MAX_TOKENS = 400_000

# A string that does not end is one token up to the end: that keeps the scan linear in the size of the text.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
# Control characters, which a terminal would obey, and those that reorder what is read; lone surrogates, which
# cannot be written. Line breaks and tabs are allowed inside texts.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Refused(ValueError):
    pass


def parse(data: bytes, what: str) -> Any:
    """The value of a JSON text; `what` names it in errors.

    Raises ArtifactError where it is not JSON, nested or divided too much, has a key twice, a number that is not finite
    or beyond 64 bits, or a text with control characters.
    """
    try:
        text = data.decode("utf-8")
        _check_bounds(text)
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
        _check_texts(value)
    except UnicodeDecodeError as e:
        raise ArtifactError(f"{what} is not UTF-8", DAMAGED_HINT) from e
    except json.JSONDecodeError as e:
        raise ArtifactError(f"{what} is not JSON ({e.msg}, line {e.lineno})", DAMAGED_HINT) from e
    except (_Refused, RecursionError) as e:
        raise ArtifactError(f"{what} is refused: {e}", DAMAGED_HINT) from e
    return value


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """The value of a JSON text that must be an object; otherwise as `parse`."""
    value = parse(data, what)
    if not isinstance(value, dict):
        raise ArtifactError(f"{what} is not a JSON object", DAMAGED_HINT)
    return value


def is_printable(text: str) -> bool:
    """Whether a text has neither control characters nor anything else that a terminal would act on."""
    return _UNPRINTABLE.search(text) is None


def printable(text: str) -> str:
    """A text with everything replaced that a terminal would act on."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _check_texts(value: Any) -> None:
    if isinstance(value, str) and not is_printable(value):
        raise _Refused("control characters in a text")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_bounds(text: str) -> None:
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(text)):
        depth += _STEPS.get(text[token.start()], 0)
        if depth > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep")
        if count > MAX_TOKENS:
            raise _Refused("too many values")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Refused("a key appears twice")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**63:
        raise _Refused("an integer beyond 64 bits")
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(f"{text[:20]} is not finite")
    return number
