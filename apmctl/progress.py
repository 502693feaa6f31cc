"""How the engine's events look: bars with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apmctl.output import Sink, labelled
from apmctl.text import clean, duration, label, number, plural, reading
from apmctl_core.events import Emit, Event, Note, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_LINE_SECONDS = 10.0  # a plain line is written after this time ...
_LINE_SHARE = 0.1  # ... or after this share of a stage ...
_LEAST_SECONDS = 1.0  # ... but not more often than this
_BAR = 24  # columns

Clock = Callable[[], float]


@contextlib.contextmanager
def listening(sink: Sink) -> Iterator[Emit]:
    """The `emit` to hand to the engine, for as long as it works."""
    if sink.quiet:
        yield silent
    elif sys.stderr.isatty():
        from rich.console import Console

        live = Live(Console(stderr=True, highlight=False, markup=False))
        with live.bars:
            yield live
    else:
        yield Lines(sink)


@dataclass
class Meter:
    """How far a stage is and how fast; what was done before this process began does not count for the rate."""

    began: float
    first: int
    latest: Progress
    now: float

    @property
    def share(self) -> float:
        """What is done of the stage, 0 to 1."""
        return self.latest.done / self.latest.total if self.latest.total else 1.0

    @property
    def rate(self) -> float | None:
        """Units per second, or None while it is unknown."""
        done, seconds = self.latest.done - self.first, self.now - self.began
        return done / seconds if done > 0 and seconds > 0 else None

    @property
    def count(self) -> str:
        """Units done of all."""
        return f"{self.latest.done}/{self.latest.total} {plural(self.latest.unit)}"

    def readings(self) -> list[str]:
        """Time left, rate and the stage's own metrics, what matters most first."""
        parts = []
        if self.rate is not None:
            remaining = self.latest.total - self.latest.done
            parts += [f"{duration(remaining / self.rate)} left"] if remaining else []
            parts.append(speed(self.rate, self.latest.unit))
        return parts + [f"{label(name)} {reading(name, value)}" for name, value in self.latest.metrics.items()]


def speed(per_second: float, unit: str) -> str:
    """A rate per second, or seconds per unit where that is slow."""
    if per_second >= 1:
        return f"{number(per_second)} {plural(unit)}/s"
    return f"{number(1 / per_second)} s/{unit.removesuffix('s')}"


class Meters:
    """The meters of all stages by their names."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    def update(self, event: Progress) -> Meter:
        """The meter of the event's stage, brought up to date; a stage that starts over gets a new one."""
        now, meter = self._clock(), self._meters.get(event.stage)
        if meter is None or event.done < meter.latest.done or event.total != meter.latest.total:
            meter = self._meters[event.stage] = Meter(now, event.done, event, now)
        meter.latest, meter.now = event, now
        return meter


class Lines:
    """Plain lines: the first and the last event of a stage, and some in between."""

    def __init__(self, sink: Sink, clock: Clock = time.monotonic) -> None:
        self._sink = sink
        self._meters = Meters(clock)
        self._written: dict[str, tuple[float, float]] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Note):
            self._sink.note(event.text, event.level)
            return
        meter = self._meters.update(event)
        if self._due(meter):
            self._written[event.stage] = (meter.now, meter.share)
            self._sink.line(f"{event.stage}: {', '.join([f'{meter.count} ({meter.share:.0%})', *meter.readings()])}")

    def _due(self, meter: Meter) -> bool:
        last = self._written.get(meter.latest.stage)
        if last is None or meter.latest.done >= meter.latest.total or meter.share < last[1]:
            return True
        seconds, share = meter.now - last[0], meter.share - last[1]
        return seconds >= _LINE_SECONDS or (share >= _LINE_SHARE - 1e-9 and seconds >= _LEAST_SECONDS)


class Live:
    """One bar per stage; notes scroll by above them. Events are shown while `bars` is entered."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        texts = ("{task.description}", "{task.percentage:3.0f}%", "{task.fields[readings]}")
        name, percentage, readings = (TextColumn(text, markup=False) for text in texts)
        bar = BarColumn(bar_width=_BAR)
        self.bars = Bars(name, bar, percentage, readings, console=console, refresh_per_second=4)
        self._meters = Meters(clock)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Note):
            style = "yellow" if event.level == "warning" else "dim"
            self.bars.console.print(clean(labelled(event.text, event.level)), style=style, soft_wrap=True)
            return
        meter = self._meters.update(event)
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self.bars.add_task(clean(event.stage), readings="")
        readings = self._fitted([meter.count, *meter.readings()])
        self.bars.update(self._tasks[event.stage], completed=event.done, total=event.total, readings=readings)

    def _fitted(self, parts: list[str]) -> str:
        """The first of the parts, as many as there is room for beside the names, the bar and the percentage."""
        room = self.bars.console.width - max(map(len, self._tasks)) - _BAR - len("  100%  ")
        texts = [clean(", ".join(parts[:count])) for count in range(len(parts) + 1)]
        return max((text for text in texts if len(text) <= room), key=len, default="")
