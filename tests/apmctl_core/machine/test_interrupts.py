"""Signals as exceptions, held back where they would tear something, and raised again where they were lost."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest

from apmctl_core.errors import Interrupted
from apmctl_core.machine import interrupts
from apmctl_core.training.checkpoint import Snapshot, ThrottledSaver

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_at_once_with_its_number(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name) as caught:
        signal.raise_signal(number)
    assert caught.value.signal == number
    assert caught.value.hint


def test_a_shield_holds_a_signal_back_until_it_is_left() -> None:
    done = []
    with pytest.raises(Interrupted), interrupts.shielded():
        with interrupts.shielded():
            signal.raise_signal(signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_an_interruption_is_no_exception_that_libraries_catch() -> None:
    assert not issubclass(Interrupted, Exception)


def test_check_raises_again_what_was_lost_and_nothing_else() -> None:
    interrupts.check()
    with contextlib.suppress(Interrupted):  # as a finaliser does
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(Interrupted):
        interrupts.check()
    interrupts.install()
    interrupts.check()


TWICE = """
import signal
from apmctl_core.machine import interrupts
interrupts.install()
with interrupts.shielded():
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
"""


def test_a_second_signal_kills_what_holds_the_first_back() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM


# --- how often a state is saved


class Clock:
    """A keeper that takes `cost` seconds to save, on a clock of its own."""

    def __init__(self, cost: float) -> None:
        self.now = 0.0
        self.cost = cost
        self.saved: list[float] = []

    def load(self, name: str) -> Snapshot | None:
        return None

    def save(self, name: str, snapshot: Snapshot) -> None:
        self.now += self.cost
        self.saved.append(self.now)

    def clear(self, name: str) -> None: ...


def clocked(monkeypatch: pytest.MonkeyPatch, cost: float) -> tuple[Clock, ThrottledSaver]:
    clock = Clock(cost)
    monkeypatch.setattr("apmctl_core.training.checkpoint.time.monotonic", lambda: clock.now)
    return clock, ThrottledSaver(clock, "state")


@pytest.mark.parametrize("cost", [0.001, 0.05, 2.0])
def test_saving_takes_less_than_two_per_cent_of_the_time(monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
    clock, saving = clocked(monkeypatch, cost)
    for _ in range(20_000):
        clock.now += 0.1
        saving.offer(lambda: Snapshot({}))
    assert len(clock.saved) * cost < 0.021 * clock.now
    gaps = [b - a for a, b in zip(clock.saved, clock.saved[1:], strict=False)]
    assert max(gaps) < max(1.2, 52 * cost + 0.2)


def test_the_end_of_a_stage_is_saved_where_a_second_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saving = clocked(monkeypatch, 0.1)
    clock.now += 0.9
    saving.done(lambda: Snapshot({}))
    assert clock.saved == []
    clock.now += 0.2
    saving.done(lambda: Snapshot({}))
    assert len(clock.saved) == 1


def test_the_last_state_is_written_though_signals_come_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saving = clocked(monkeypatch, 0.1)

    def make() -> Snapshot:
        signal.raise_signal(signal.SIGTERM)
        return Snapshot({})

    with pytest.raises(Interrupted):
        saving.last(make)
    assert len(clock.saved) == 1
