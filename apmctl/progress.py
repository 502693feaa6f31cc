"""How the engine's events look: bars with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apmctl.output import Sink
from apmctl.text import clean, duration, label, number, plural, size
from apmctl_core.events import Emit, Event, Note, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.text import Text

_LINE_SECONDS = 10.0  # a plain line is written after so long ...
_LINE_SHARE = 0.1  # ... or after this share of a stage ...
_LEAST_SECONDS = 1.0  # ... but not more often than this

Clock = Callable[[], float]


@contextlib.contextmanager
def listening(sink: Sink) -> Iterator[Emit]:
    """The `emit` to hand to the engine, for as long as it works."""
    if sink.quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars() as emit:
            yield emit
    else:
        yield Lines(sink)


@dataclass
class Meter:
    """How far a stage is and how fast; what was done before this process began does not count for the rate."""

    began: float
    first: int
    latest: Progress
    now: float = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.began

    def update(self, event: Progress, now: float) -> None:
        """Take in the next event of the stage."""
        self.latest, self.now = event, now

    @property
    def share(self) -> float:
        """What is done of the stage, 0 to 1."""
        return self.latest.done / self.latest.total if self.latest.total else 1.0

    @property
    def rate(self) -> float | None:
        """Units a second, or None as long as nothing can be said."""
        done, seconds = self.latest.done - self.first, self.now - self.began
        return done / seconds if done > 0 and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds left at this rate."""
        return None if self.rate is None else (self.latest.total - self.latest.done) / self.rate

    def readings(self) -> str:
        """Rate, time left and the stage's own metrics, as one text."""
        parts = [] if self.rate is None else [rate(self.rate, self.latest.unit)]
        if self.left:
            parts.append(f"{duration(self.left)} left")
        return ", ".join([*parts, *metrics(self.latest.metrics)])


def rate(per_second: float, unit: str) -> str:
    """A rate as a person would say it: per second, or seconds for one where that is slow."""
    if per_second >= 1:
        return f"{number(per_second)} {plural(unit)}/s"
    return f"{number(1 / per_second)} s/{unit.removesuffix('s')}"


def metrics(values: Mapping[str, float]) -> list[str]:
    """Each metric as `name value`; those counted in bytes in a fitting unit."""
    return [f"{label(name)} {_reading(name, value)}" for name, value in values.items()]


def _reading(name: str, value: float) -> str:
    return size(value) if name.endswith("bytes") else number(value)


class Lines:
    """Plain lines: the first and the last event of a stage, and at sensible intervals in between."""

    def __init__(self, sink: Sink, clock: Clock = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._written: dict[str, tuple[float, float]] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Note):
            self._sink.note(event.text, event.level)
            return
        meter = _metered(self._meters, event, self._clock())
        if self._due(meter):
            self._written[event.stage] = (meter.now, meter.share)
            readings = meter.readings()
            count = f"{event.done}/{event.total} {plural(event.unit)} ({meter.share:.0%})"
            self._sink.line(f"{event.stage}: {count}{', ' if readings else ''}{readings}")

    def _due(self, meter: Meter) -> bool:
        last = self._written.get(meter.latest.stage)
        if last is None or meter.latest.done >= meter.latest.total or meter.share < last[1]:
            return True
        seconds, share = meter.now - last[0], meter.share - last[1]
        return seconds >= _LINE_SECONDS or (share >= _LINE_SHARE - 1e-9 and seconds >= _LEAST_SECONDS)


def _metered(meters: dict[str, Meter], event: Progress, now: float) -> Meter:
    """The meter of an event's stage, brought up to date; a stage that starts over gets a new one."""
    meter = meters.get(event.stage)
    if meter is None or event.done < meter.latest.done or event.total != meter.latest.total:
        meter = meters[event.stage] = Meter(now, event.done, event)
    meter.update(event, now)
    return meter


# --- on a terminal -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _bars() -> Iterator[Emit]:
    from rich.console import Console

    with Live(Console(stderr=True, highlight=False, markup=False)) as live:
        yield live


class Live:
    """A bar a stage, one under the other; notes scroll by above them."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars = _make_bars(console)

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Note):
            self._console.print(_text(event), soft_wrap=True)
            return
        meter = _metered(self._meters, event, self._clock())
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(clean(event.stage), readings="")
        count = f"{event.done}/{event.total} {plural(event.unit)}"
        self._bars.update(
            self._tasks[event.stage],
            completed=event.done,
            total=event.total,
            readings=clean(", ".join(part for part in (count, meter.readings()) if part)),
        )


def _make_bars(console: Console) -> Bars:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f}%", markup=False),
        TextColumn("{task.fields[readings]}", markup=False),
    )
    return Bars(*columns, console=console, refresh_per_second=4)


def _text(note: Note) -> Text:
    from rich.text import Text

    style = "yellow" if note.level == "warning" else "dim"
    return Text(f"{'note' if note.level == 'info' else note.level}: {clean(note.text)}", style=style)
