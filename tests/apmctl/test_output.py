"""The sink: what reaches stdout and stderr in each mode, and that it is safe to print."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from apmctl.blocks import Block, Pairs, Table, as_text
from apmctl.errors import Failure
from apmctl.output import Sink, plain, to_json
from apmctl.text import about, age, clean, date, duration, number, reading, size, span
from apmctl_core.config import ApmConfig


@dataclass(frozen=True)
class Answer:
    """A result of its own kind."""

    command: str = "x"
    value: float = 1

    def brief(self) -> str:
        return "brief"

    def blocks(self) -> list[Block]:
        return ["for people"]


FAILURE = Failure("DataError", "wrong\x1b[2J", "do \x07this", 4)


def test_each_mode_prints_its_form_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Sink().result(Answer())
    assert capsys.readouterr() == ("for people\n", "")
    Sink(quiet=True).result(Answer())
    assert capsys.readouterr() == ("brief\n", "")
    for sink in (Sink(json=True), Sink(json=True, quiet=True)):
        sink.result(Answer())
        out, err = capsys.readouterr()
        assert json.loads(out) == {"command": "x", "value": 1}
        assert err == ""
    Sink().text("")
    assert capsys.readouterr().out == ""


def test_notes_and_progress_go_to_stderr_and_nowhere_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for sink in (Sink(), Sink(json=True)):
        sink.note("falling back", "warning")
        sink.line("1/2 rounds")
        assert capsys.readouterr() == ("", "warning: falling back\n1/2 rounds\n")
    Sink(quiet=True).note("falling back", "warning")
    Sink(quiet=True).line("1/2 rounds")
    assert capsys.readouterr() == ("", "")


def test_errors_are_printed_even_when_quiet_and_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Sink(quiet=True).failure(FAILURE)
    assert capsys.readouterr() == ("", "error: wrong\\x1b[2J\nhint: do \\x07this\n")


def test_with_json_an_error_takes_the_place_of_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    Sink(json=True).failure(FAILURE)
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == "do \x07this"
    Sink(json=True).complaint(FAILURE)
    assert capsys.readouterr().out == ""


def test_json_has_no_numbers_that_are_not_finite() -> None:
    text = to_json({"a": float("nan"), "b": [float("inf"), -float("inf"), 0.5], "c": {"d": (1, None, True)}})
    assert json.loads(text) == {"a": None, "b": [None, None, 0.5], "c": {"d": [1, None, True]}}
    assert "NaN" not in text


def test_json_takes_paths_dataclasses_and_any_mapping() -> None:
    document = plain({"path": Path("/a/b"), "config": ApmConfig(ipc=3), "map": MappingProxyType({1: "x"})})
    assert document["path"] == "/a/b"
    assert document["config"]["ipc"] == 3
    assert document["map"] == {"1": "x"}


def test_json_refuses_bytes() -> None:
    with pytest.raises(TypeError, match="bytes"):
        to_json({"a": b"raw"})


def test_json_is_ascii_so_that_it_controls_no_terminal() -> None:
    text = to_json({"name": "a\x1b[31m\x9b\u202eb"})
    assert text.isascii()
    assert "\x1b" not in text


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x07", "\x9b0m", "\x7f", "\n", "\r", "\u202e", "\u2028", "\ud800"])
def test_clean_escapes_whatever_is_not_printable(bad: str) -> None:
    shown = clean(f"a{bad}b")
    assert shown.isprintable()
    assert shown.startswith("a") and shown.endswith("b")
    assert bad not in shown


def test_clean_leaves_ordinary_text_alone() -> None:
    assert clean("Größe 猫 ±") == "Größe 猫 ±"


def test_a_stream_that_cannot_spell_a_character_gets_it_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Sink().text("84.0 ± 0.1")
    assert raw.getvalue() == b"84.0 \\xb1 0.1\n"


def test_a_reader_that_stops_early_is_no_error() -> None:
    code = "from apmctl.output import Sink\nfor _ in range(1000): Sink().text('x' * 1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_plain_tables_and_pairs_are_aligned_and_escaped() -> None:
    table = Table(("name", "size"), [("a", "1"), ("long\nname", "1000")], right=("size",), spare=("size",))
    pairs = Pairs([("a", 1), ("long", None)])
    assert as_text(["line\x07", table, "", pairs, Pairs([])]).splitlines() == [
        *("line\\x07", "name        size", "a              1", "long\\nname  1000", "", "  a     1", "  long  None")
    ]


def _on_terminal(*blocks: Block, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    return [line.rstrip() for line in as_text(blocks, console).split("\n")]


def _listing(ref: str) -> Table:
    created = "2026-01-02 03:04"
    rows = [("report", ref, "digits", "19.2 KB", "84.1", created), ("set", "a[b]@0", "digits", "1 B", "-", created)]
    headers = ("kind", "artifact", "data", "size", "accuracy", "created")
    return Table(headers, rows, right=("size", "accuracy"), spare=("data", "created"), wrap=("artifact",))


def test_on_a_terminal_a_table_that_fits_is_as_in_plain_text() -> None:
    table = _listing("digits-ipc1@0123456789ab")
    assert _on_terminal(table) == as_text([table]).splitlines()


def test_on_a_narrow_terminal_spare_columns_go_before_anything_wraps() -> None:
    ref = "cifar100-convnet3-w128@0123456789ab"
    lines = _on_terminal(_listing(ref))
    assert lines[0].split() == ["kind", "artifact", "size", "accuracy", "created"]
    assert lines[1].split() == ["report", ref, "19.2", "KB", "84.1", "2026-01-02", "03:04"]
    narrower = _on_terminal(_listing(ref), width=64)
    assert narrower[1].split() == ["report", ref, "19.2", "KB", "84.1"]
    assert len(lines) == len(narrower) == 3


def test_on_a_terminal_what_still_does_not_fit_is_folded_without_loss() -> None:
    lines = _on_terminal(_listing("a" * 70 + "@0123456789ab"))
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[1] + lines[2].strip() == "a" * 70 + "@0123456789ab"


def test_on_a_terminal_lines_and_pairs_are_not_broken_so_that_paths_can_be_copied() -> None:
    path = "/very" * 30
    assert _on_terminal(f"line {path}", Pairs([("path", path)])) == [f"line {path}", f"  path  {path}"]


def test_sizes_and_durations_are_in_units_that_people_choose() -> None:
    assert [size(n) for n in (0, 999, 1500, 150_000, 6.5e9)] == ["0 B", "999 B", "1.5 KB", "150 KB", "6.5 GB"]
    assert [duration(s) for s in (0.04, 9.9, 9.97, 59.6, 185, 7800)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "1:00 min",
        "3:05 min",
        "2:10 h",
    ]
    assert [duration(h * 3600) for h in (47.5, 48, 100, 2324)] == ["47:30 h", "2.0 days", "4.2 days", "97 days"]


def test_estimates_are_ranges_in_one_unit_where_it_fits_both() -> None:
    day = 86_400.0
    spans = {
        "0 to 1 s": (0.4, 0.9),
        "31 to 86 s": (31.2, 85.3),
        "43 s to 1.9 min": (43, 113),
        "12 to 25 min": (725, 1490),
        "10 to 30 h": (36_000, 108_000),
        "40 h to 3.8 days": (144_000, 324_000),
        "97 to 200 days": (97 * day, 198 * day),
        "1,500 to 3,000 days": (1520 * day, 2950 * day),
        "about 5 s": (5, 5),
    }
    assert {text: span(*seconds) for text, seconds in spans.items()} == {text: text for text in spans}
    assert [about(seconds) for seconds in (0, 50, 90 * 60, 97 * day)] == [
        *("about 0 s", "about 50 s", "about 1.5 h", "about 97 days")
    ]


def test_numbers_are_written_out_with_separators() -> None:
    values = (0, 2, 50.0, 0.12345, 0.00002, 119_700, 1e9, -50_000, 1e18, float("nan"))
    expected = ["0", "2", "50", "0.1235", "0.00002", "120,000", "1,000,000,000", "-50,000", "1e+18", "nan"]
    assert [number(value) for value in values] == expected
    assert reading("loss", 1e9) == "1,000,000,000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),  # of a clock that is ahead
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
        (86_400, "1 d ago"),
        (60 * 86_400 - 1, "59 d ago"),
        (60 * 86_400, "2 months ago"),
        (730 * 86_400 - 1, "24 months ago"),
        (730 * 86_400, "2 years ago"),
    ],
)
def test_ages_are_in_the_unit_that_people_would_choose(seconds: float, text: str) -> None:
    made = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert age("2026-01-02T03:04:05+00:00", made.timestamp() + seconds) == text


@pytest.mark.parametrize("text", [None, 3, "", "yesterday", "\x1b[2J"])
def test_what_is_no_date_has_no_age(text: Any) -> None:
    assert (age(text), date(text)) == ("-", "-")
