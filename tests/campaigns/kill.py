"""Runs that are killed at random, resumed until they are done, and compared with runs that nobody interrupts.

`python -m tests.campaigns.kill` runs the whole campaign; `--help` lists its parts. Each run must end with the bytes of
the uninterrupted one and with no file more or less than it has; after every kill no half artifact may be in sight.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns import warm
from tests.campaigns.recipes import Job, contents, jobs, on

COMMAND = Path(sys.executable).parent / "apmctl"
_ATTEMPTS = 3  # after so many kills a run is left alone
_LIMIT = 600.0
_AT_ITS_END = 1.0  # seconds: a signal that comes when a run is done may be too late
_PATIENCE = 5.0  # seconds that a run has to leave after SIGINT or SIGTERM


class Failed(Exception):
    """A run that did not keep a promise."""


@dataclass
class Tally:
    """What a part of the campaign did."""

    runs: int = 0
    kills: int = 0
    slowest: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, object]:
        """The tally as JSON."""
        found: dict[str, object] = {"runs": self.runs, "kills": self.kills}
        if self.codes:
            found |= {"slowest_exit_s": round(self.slowest, 2), "exit_codes": dict(sorted(self.codes.items()))}
        return found


@dataclass
class Place:
    """Where one run works."""

    store: Path
    log: Path


def check_between(place: Place) -> None:
    """No reader sees half an artifact, and listing works, whatever was killed."""
    from apmctl_core.artifacts import Store

    home = Store(place.store)
    damaged = home.scan()[1]
    if damaged:
        raise Failed(f"{damaged[0].path} is in sight and no artifact: {damaged[0].error}")
    for run in home.runs():
        if run.running:
            raise Failed(f"{run.path} belongs to a dead process and is said to be running")


def check_end(job: Job, place: Place) -> None:
    """The store is what an uninterrupted run makes of it, path by path and byte by byte."""
    found = contents(place.store)
    stray = sorted(found.keys() - job.expected.keys())
    lost = sorted(job.expected.keys() - found.keys())
    other = sorted(name for name in found.keys() & job.expected.keys() if found[name] != job.expected[name])
    if stray or lost or other:
        raise Failed(f"{job.name}: stray {stray[:3]}, missing {lost[:3]}, other bytes in {other[:3]}")


def finish(job: Job, place: Place) -> None:
    """Let a run end, and check what it made."""
    child = warm.start(on(job.arguments, place.store), place.log)
    code = child.wait(_LIMIT)
    if code != 0:
        raise Failed(f"{job.name} ended with {code}: {child.said[-2000:]}")
    check_end(job, place)


def kill_at_random(job: Job, place: Place, rng: random.Random, tally: Tally) -> None:
    """SIGKILL at random moments, until a run ends before its moment comes."""
    arguments = job.begin(place.store)
    eager = rng.random() < 0.5
    for _ in range(_ATTEMPTS):
        child = warm.start(arguments, place.log, eager=eager)
        code = child.wait(rng.uniform(0, 1.1 * job.seconds))
        if code == 0:
            break
        if code is not None:
            raise Failed(f"{job.name} ended with {code}: {child.said[-2000:]}")
        child.send(signal.SIGKILL)
        child.wait(_LIMIT)
        tally.kills += 1
        check_between(place)
    finish(job, place)
    tally.runs += 1


def kill_at_changes(job: Job, place: Place, points: list[int], tally: Tally) -> None:
    """SIGKILL just before the n-th change of the store's files, for each n of `points` in turn."""
    arguments = job.begin(place.store)
    for point in points:
        child = warm.start(arguments, place.log, eager=True, die_at=point, root=place.store)
        code = child.wait(_LIMIT)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            raise Failed(f"{job.name} ended with {code}: {child.said[-2000:]}")
        tally.kills += 1
        check_between(place)
    finish(job, place)
    tally.runs += 1


def changes_of(job: Job, place: Place) -> int:
    """How many changes of the store's files an uninterrupted run makes."""
    child = warm.start(job.begin(place.store), place.log, eager=True, die_at=-1, root=place.store)
    if child.wait(_LIMIT) != 0:
        raise Failed(f"{job.name} does not run: {child.said[-2000:]}")
    return int(child.said.split()[-1])


def interrupt(job: Job, place: Place, rng: random.Random, tally: Tally) -> None:
    """SIGINT or SIGTERM at a random moment: 130 or 143 within five seconds, then on to the same bytes."""
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    for attempt in range(_ATTEMPTS):  # a run that ended before its moment is begun again, its moment earlier
        child = warm.start(job.begin(place.store), place.log, eager=rng.random() < 0.5)
        code = child.wait(0.05 + rng.uniform(0, job.seconds / 2**attempt))  # the handlers take some milliseconds
        if code is None:
            began = time.monotonic()
            child.send(number)
            code = child.wait(_LIMIT)
            note(tally, number, code, time.monotonic() - began, child.said)
            break
    check_between(place)
    finish(job, place)
    tally.runs += 1


def note(tally: Tally, number: int, code: int | None, seconds: float, said: str) -> None:
    """Count how a run ended that was sent a signal. Raises Failed if not as promised."""
    if code == -number and "@" in said:  # its result was told already, and Python was on its way out
        code = 0
    tally.slowest = max(tally.slowest, seconds)
    tally.kills += 1
    tally.codes[str(code)] += 1
    missed = code == 0 and seconds < _AT_ITS_END
    if not (code == 128 + number or missed) or seconds > _PATIENCE or "Traceback" in said:
        raise Failed(f"signal {number} led to {code} after {seconds:.1f} s: {said[-2000:]}")


def through_the_command(job: Job, place: Place, rng: random.Random, tally: Tally) -> None:
    """The same by the installed command: a signal once it is at work, SIGKILL at random, then to the end."""
    arguments = [str(COMMAND), *job.begin(place.store)]
    began = time.monotonic()
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    for sent in (number, signal.SIGKILL):
        with place.log.open("w") as log:
            child = subprocess.Popen(arguments, stdout=log, stderr=log)
            wait_for_handlers(child.pid)
            try:
                code: int | None = child.wait(rng.uniform(0, 2 * job.seconds + 3))
                break
            except subprocess.TimeoutExpired:
                began = time.monotonic()
                child.send_signal(sent)
                code = child.wait(_LIMIT)
            if sent == number:
                note(tally, sent, code, time.monotonic() - began, place.log.read_text())
            else:
                tally.kills += 1
        check_between(place)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if done.returncode != 0:
        raise Failed(f"{job.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    check_end(job, place)
    tally.runs += 1


def wait_for_handlers(pid: int) -> None:
    """Return when a process handles SIGTERM: before that, some 0.3 s after its start, it has done nothing yet."""
    path = Path(f"/proc/{pid}/status")
    for _ in range(2000):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            line = next(line for line in path.read_text().splitlines() if line.startswith("SigCgt:"))
            if int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.005)


def parse() -> argparse.Namespace:
    """The options of the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs killed at random moments")
    parser.add_argument("--points", type=int, default=60, help="runs killed just before a change of the store's files")
    parser.add_argument("--signals", type=int, default=60, help="runs stopped by SIGINT or SIGTERM")
    parser.add_argument("--installed", type=int, default=10, help="runs of the installed command, signalled and killed")
    parser.add_argument("--minutes", type=float, default=25, help="no run is begun after so long")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


Part = Callable[[Job, Place, random.Random, Tally], None]


def main() -> int:
    """Run the campaign; 1 if a promise was not kept."""
    options = parse()
    work = Path(tempfile.mkdtemp(prefix="apmctl-kill."))
    say = sys.stdout.write
    end = time.monotonic() + 60 * options.minutes
    warm.load()
    made = jobs(work)
    cold, *usual = made
    say(f"seconds without interruption: { {job.name: round(job.seconds, 1) for job in made} }\n")
    place = Place(work / "store", work / "run.log")

    total = functools.cache(lambda job: changes_of(job, place))

    def at_changes(job: Job, place: Place, rng: random.Random, tally: Tally) -> None:
        kill_at_changes(job, place, [rng.randint(1, total(job)), rng.randint(1, total(job))], tally)

    parts: list[tuple[str, int, Part]] = [
        ("killed at random", options.runs, kill_at_random),
        ("killed at a change", options.points, at_changes),
        ("signalled", options.signals, interrupt),
        ("installed", options.installed, through_the_command),
    ]
    found = {}
    for title, count, part in parts:
        tally = Tally()
        for number in range(count):
            if time.monotonic() > end:
                break
            rng = random.Random(f"{options.seed}/{title}/{number}")
            job = cold if number % 10 == 9 else usual[number % 2]
            place.log.unlink(missing_ok=True)
            try:
                part(job, place, rng, tally)
            except Failed as e:
                say(f"{title}, run {number}: {e}\nwhat it left: {work}\n")
                return 1
        found[title] = tally.document()
        say(f"{title}: {json.dumps(found[title])}\n")
        sys.stdout.flush()
    shutil.rmtree(work)
    say(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
