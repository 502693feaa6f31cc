"""How events look: plain lines elsewhere, bars on a terminal, nothing when quiet."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from apmctl.output import Sink
from apmctl.progress import Lines, Live, Meter, listening, speed
from apmctl_core.events import Note, Progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _event(done: int, total: int = 100, stage: str = "distill", **metrics: float) -> Progress:
    return Progress(stage=stage, done=done, total=total, unit="round", metrics=metrics)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_the_first_and_the_last_event_are_always_written(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Lines(Sink(), Clock())
    for done in range(1, 101):
        emit(_event(done))
    lines = _lines(capsys)
    assert lines[0].startswith("distill: 1/100 rounds (1%)")
    assert lines[-1].startswith("distill: 100/100 rounds (100%)")
    assert len(lines) == 2


def test_a_slow_stage_has_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    emit = Lines(Sink(), clock)
    for done in range(1, 62):
        emit(_event(done, total=100_000))
        clock.now += 1
    assert [line.split("/")[0] for line in _lines(capsys)] == [f"distill: {n}" for n in (1, 11, 21, 31, 41, 51, 61)]


def test_a_faster_stage_has_a_line_every_tenth_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    emit = Lines(Sink(), clock)
    for done in range(101):
        emit(_event(done))
        clock.now += 0.2
    assert [line.split("/")[0] for line in _lines(capsys)] == [f"distill: {n}" for n in range(0, 101, 10)]


def test_lines_have_rate_time_left_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    emit = Lines(Sink(), clock)
    emit(_event(20))
    clock.now += 10
    emit(_event(40, loss=0.12345, peak_memory_bytes=1.5e9))
    line = _lines(capsys)[-1]
    assert line == "distill: 40/100 rounds (40%), 30 s left, 2 rounds/s, loss 0.1235, peak memory 1.5 GB"


def test_what_was_done_before_a_resumed_run_does_not_count_for_its_rate() -> None:
    meter = Meter(0.0, 90, _event(95), 10.0)
    assert meter.rate == pytest.approx(0.5)
    assert meter.readings() == ["10 s left", "2 s/round"]


def test_there_is_no_rate_before_there_are_two_events() -> None:
    meter = Meter(0.0, 3, _event(3), 0.0)
    assert meter.rate is None
    assert meter.readings() == []


def test_a_stage_of_nothing_is_done() -> None:
    assert Meter(0.0, 0, _event(0, total=0), 0.0).share == 1.0


def test_slow_rates_are_seconds_for_one() -> None:
    assert speed(12.5, "epoch") == "12.5 epochs/s"
    assert speed(0.25, "epoch") == speed(0.25, "epochs") == "4 s/epoch"
    assert speed(2, "images") == "2 images/s"
    assert speed(1.197e5, "image") == "120,000 images/s"


def test_stages_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Lines(Sink(), Clock())
    for stage in ("teachers", "distill"):
        emit(_event(1, total=2, stage=stage))
        emit(_event(2, total=2, stage=stage))
    assert [line.split(":")[0] for line in _lines(capsys)] == ["teachers", "teachers", "distill", "distill"]


def test_a_stage_that_starts_over_is_measured_anew(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    emit = Lines(Sink(), clock)
    for done in (50, 100):
        emit(_event(done))
        clock.now += 1
    _lines(capsys)
    emit(_event(1))
    assert _lines(capsys) == ["distill: 1/100 rounds (1%)"]


def test_notes_are_lines_and_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Lines(Sink())
    emit(Note(text="using \x1b[31mred"))
    emit(Note(text="slow; `list` or `memory_budget 4GB`", level="warning"))
    assert _lines(capsys) == ["note: using \\x1b[31mred", "warning: slow; `apmctl list` or --memory-budget 4GB"]


def test_quiet_listens_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Sink(quiet=True)) as emit:
        emit(_event(1))
        emit(Note(text="x", level="warning"))
    assert _lines(capsys) == []


def test_elsewhere_than_on_a_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Sink()) as emit:
        emit(_event(1, stage="stage[bold]"))
    assert _lines(capsys) == ["stage[bold]: 1/100 rounds (1%)"]


def test_a_terminal_gets_bars_and_notes_above_them() -> None:
    screen = io.StringIO()
    clock = Clock()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None, markup=False)
    emit = Live(console, clock)
    with emit.bars:
        emit(_event(0, stage="teachers"))
        emit(Note(text="reused [pool] \x07x", level="warning"))
        clock.now += 5
        emit(_event(100, stage="teachers", loss=0.5))
        emit(_event(1, stage="distill"))
    text = screen.getvalue()
    assert "warning: reused [pool] \\x07x" in text
    assert "100/100 rounds, 20 rounds/s, loss 0.5" in text
    assert "1/100 rounds" in text
    assert "━" in text


@pytest.mark.parametrize(
    ("width", "readings"),
    [
        (120, "20/100 rounds, 40 s left, 2 rounds/s, student loss 0.5, match loss 0.25"),
        (80, "20/100 rounds, 40 s left, 2 rounds/s"),
        (70, "20/100 rounds, 40 s left"),
        (56, "20/100 rounds"),
        (45, ""),
    ],
)
def test_a_narrow_terminal_keeps_the_bar_and_the_percentage(width: int, readings: str) -> None:
    screen, clock = io.StringIO(), Clock()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    emit = Live(console, clock)
    with emit.bars:
        emit(_event(0, stage="teachers"))
        emit(_event(0))
        clock.now += 10
        emit(_event(20, student_loss=0.5, match_loss=0.25))
    (*_, line) = [each for each in re.split(r"[\r\n]|\x1b\[\S+", screen.getvalue()) if each.startswith("distill")]
    assert line.rstrip() == f"distill  {'━━━━╸':<24}  20% {readings}".rstrip()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bars_are_drawn_on_a_real_terminal() -> None:
    import pty

    code = (
        "from apmctl.output import Sink\nfrom apmctl.progress import listening\n"
        "from apmctl_core.events import Progress\n"
        "with listening(Sink()) as emit:\n"
        "    emit(Progress(stage='distill', done=3, total=3, unit='round'))\n"
    )
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=env, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.stdout == b""
    assert "3/3 rounds" in shown
    assert "━" in shown
