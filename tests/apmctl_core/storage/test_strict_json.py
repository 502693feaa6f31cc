from __future__ import annotations

import time

import pytest

from apmctl_core.errors import ArtifactError
from apmctl_core.storage.strict_json import MAX_DEPTH, MAX_TOKENS, is_printable, parse, parse_object, printable


def test_plain_values_come_back_as_they_are() -> None:
    assert parse(b'{"a": [1, -2.5, true, null, "\\u00e9 \\n"]}', "x") == {"a": [1, -2.5, True, None, "é \n"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"x": {"a": 1, "a": 1}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "not finite"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ["x", {"b": "\\u001b"}]}', "control characters"),
        (b'"' + "\N{RIGHT-TO-LEFT OVERRIDE}".encode() + b'"', "control characters"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "64 bits"),
        (b'{"a": "\\u001b[31m"}', "control characters"),
        (b'{"\\u202e": 1}', "control characters"),
        (b'{"a": ["\\ud800"]}', "control characters"),
        (b'{"a": "\x1b"}', "not JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deep"),
        (b'{"a":' * 50_000, "deep"),
        (b"[" + b"0," * (MAX_TOKENS + 1) + b"0]", "too many values"),
    ],
)
def test_what_is_hostile_or_broken_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(ArtifactError, match=problem) as caught:
        parse(text, "the file")
    assert caught.value.message.startswith("the file")
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert is_printable(caught.value.message)


def test_the_bounds_themselves_are_within_them() -> None:
    assert parse(b"[9223372036854775807, -9223372036854775808]", "x") == [2**63 - 1, -(2**63)]
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")
    commas = MAX_TOKENS - 1  # and two brackets: the count begins at zero
    assert len(parse(b"[" + b"0," * commas + b"0]", "x")) == commas + 1
    with pytest.raises(ArtifactError, match="too many values"):
        parse(b"[" + b"0," * (commas + 1) + b"0]", "x")


def test_depth_is_counted_outside_of_texts_only() -> None:
    assert parse(b'["' + b"[" * 1000 + b'", "\\"' + b"{" * 1000 + b'"]', "x")


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 1_000_000, b'"' * 2_000_000, b'{"a' * 500_000])
def test_scanning_takes_linear_time(text: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(ArtifactError):
        parse(text, "x")
    assert time.perf_counter() - began < 5


def test_an_object_is_asked_for() -> None:
    assert parse_object(b"{}", "x") == {}
    with pytest.raises(ArtifactError, match="not a JSON object"):
        parse_object(b"[]", "x")


def test_printable_replaces_what_a_terminal_obeys() -> None:
    assert printable("a\x1b[0m\u202eb\tc") == "a\ufffd[0m\ufffdb\tc"
