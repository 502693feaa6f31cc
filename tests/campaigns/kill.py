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
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.recipes import Failed, Job, jobs
from tests.command import Answer, Child, Shell
from tests.helpers import contents

_ATTEMPTS = 3  # after so many kills a run is left alone
_AT_ITS_END = 1.0  # seconds: a signal that comes when a run is done may be too late
_PATIENCE = 5.0  # seconds that a run has to leave after SIGINT or SIGTERM


@dataclass
class Tally:
    """What a part of the campaign did."""

    runs: int = 0
    kills: int = 0
    slowest: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, Any]:
        """The tally as JSON."""
        values: dict[str, Any] = {"runs": self.runs, "kills": self.kills}
        if self.codes:
            values |= {"slowest_exit_s": round(self.slowest, 2), "exit_codes": dict(sorted(self.codes.items()))}
        return values


def check_between(store: Path) -> None:
    """No reader sees half an artifact, and listing works, whatever was killed."""
    from apmctl_core.artifacts import Store

    home = Store(store)
    damaged = home.scan()[1]
    if damaged:
        raise Failed(f"{damaged[0].path} is in sight and no artifact: {damaged[0].error}")
    for run in home.runs():
        if run.running:
            raise Failed(f"{run.path} belongs to a dead process and is said to be running")


def finish(job: Job, shell: Shell, tally: Tally) -> None:
    """Let a run end; the store is then what an uninterrupted run makes of it, path by path and byte by byte."""
    answer = shell(*job.arguments)
    if answer.code != 0:
        raise Failed(f"{job.name} ended with {answer}")
    left = contents(shell.store)
    stray = sorted(left.keys() - job.expected.keys())
    lost = sorted(job.expected.keys() - left.keys())
    other = sorted(name for name in left.keys() & job.expected.keys() if left[name] != job.expected[name])
    if stray or lost or other:
        raise Failed(f"{job.name}: stray {stray[:3]}, missing {lost[:3]}, other bytes in {other[:3]}")
    tally.runs += 1


def kill_at_random(job: Job, shell: Shell, rng: random.Random, tally: Tally) -> None:
    """SIGKILL at random moments, until a run ends before its moment comes."""
    job.begin(shell.store)
    eager = rng.random() < 0.5
    for _ in range(_ATTEMPTS):
        child = shell.start(*job.arguments, eager=eager)
        code = child.wait(rng.uniform(0, 1.1 * job.seconds))
        if code == 0:
            break
        if code is not None:
            raise Failed(f"{job.name} ended with {child.answer}")
        child.stop(signal.SIGKILL)
        tally.kills += 1
        check_between(shell.store)
    finish(job, shell, tally)


def kill_at_changes(job: Job, shell: Shell, points: list[int], tally: Tally) -> None:
    """SIGKILL just before the n-th change of the store's files, for each n of `points` in turn."""
    job.begin(shell.store)
    for point in points:
        answer = shell.start(*job.arguments, eager=True, die_at=point, root=str(shell.store)).end()
        if answer.code == 0:
            break
        if answer.code != -signal.SIGKILL:
            raise Failed(f"{job.name} ended with {answer}")
        tally.kills += 1
        check_between(shell.store)
    finish(job, shell, tally)


def changes_of(job: Job, shell: Shell) -> int:
    """How many changes of the store's files an uninterrupted run makes."""
    job.begin(shell.store)
    answer = shell.start(*job.arguments, eager=True, die_at=-1, root=str(shell.store)).end()
    if answer.code != 0:
        raise Failed(f"{job.name} does not run: {answer}")
    return int(answer.err.split()[-1])


def interrupt(job: Job, shell: Shell, rng: random.Random, tally: Tally) -> None:
    """SIGINT or SIGTERM at a random moment: 130 or 143 within five seconds, then on to the same bytes."""
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    for attempt in range(_ATTEMPTS):  # a run that ended before its moment is begun again, its moment earlier
        job.begin(shell.store)
        child = shell.start(*job.arguments, eager=rng.random() < 0.5)
        wait_for_handlers(child)
        if child.wait(rng.uniform(0, job.seconds / 2**attempt)) is None:
            note(tally, number, *child.stop(number))
            break
    check_between(shell.store)
    finish(job, shell, tally)


def note(tally: Tally, number: int, answer: Answer, seconds: float) -> None:
    """Count how a run ended that was sent a signal. Raises Failed if not as promised."""
    code = answer.code
    if code == -number and "@" in answer.out:  # its result was told already, and Python was on its way out
        code = 0
    tally.slowest = max(tally.slowest, seconds)
    tally.kills += 1
    tally.codes[str(code)] += 1
    missed = code == 0 and seconds < _AT_ITS_END
    if not (code == 128 + number or missed) or seconds > _PATIENCE or "Traceback" in answer.err:
        raise Failed(f"signal {number} led to {answer} after {seconds:.1f} s")


def through_the_command(job: Job, shell: Shell, rng: random.Random, tally: Tally) -> None:
    """The same by the installed command: a signal once it is at work, SIGKILL at random, then to the end."""
    shell = Shell(shell.store, installed=True)
    job.begin(shell.store)
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    for sent in (number, signal.SIGKILL):
        child = shell.start(*job.arguments)
        wait_for_handlers(child)
        if child.wait(rng.uniform(0, 2 * job.seconds + 3)) is not None:
            break
        answer, seconds = child.stop(sent)
        if sent == number:
            note(tally, sent, answer, seconds)
        else:
            tally.kills += 1
        check_between(shell.store)
    finish(job, shell, tally)


def wait_for_handlers(child: Child) -> None:
    """Return when a process handles SIGTERM: before that, some 0.3 s after its start, it has done nothing yet."""
    path = Path(f"/proc/{child.pid}/status")
    for _ in range(2000):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            line = next(line for line in path.read_text().splitlines() if line.startswith("SigCgt:"))
            if int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.002)


def run(
    work: Path, counts: dict[str, int], minutes: float = 25, seed: int = 0, say: Callable[[str], object] = str
) -> dict[str, Any]:
    """As many runs of each part as `counts` says: what came of them. Raises Failed if a promise was not kept."""
    end = time.monotonic() + 60 * minutes
    cold, *usual = prepared = jobs(work)
    say(f"seconds without interruption: { {job.name: round(job.seconds, 1) for job in prepared} }")
    shell = Shell(work / "store")
    total = functools.cache(lambda job: changes_of(job, shell))

    def at_changes(job: Job, shell: Shell, rng: random.Random, tally: Tally) -> None:
        kill_at_changes(job, shell, [rng.randint(1, total(job)), rng.randint(1, total(job))], tally)

    parts = {
        "killed at random": kill_at_random,
        "killed at a change": at_changes,
        "signalled": interrupt,
        "installed": through_the_command,
    }
    results = {}
    for title, count in counts.items():
        tally = Tally()
        for number in range(count):
            if time.monotonic() > end:
                break
            rng = random.Random(f"{seed}/{title}/{number}")
            try:
                parts[title](cold if number % 10 == 9 else usual[number % 2], shell, rng, tally)
            except Failed as e:
                raise Failed(f"{title}, run {number}: {e}; what it left: {work}") from e
        results[title] = tally.document()
        say(f"{title}: {json.dumps(results[title])}")
    return results


def main() -> None:
    """Run the campaign; a promise that was not kept ends it with a traceback, and its files stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs killed at random moments")
    parser.add_argument("--points", type=int, default=60, help="runs killed just before a change of the store's files")
    parser.add_argument("--signals", type=int, default=60, help="runs stopped by SIGINT or SIGTERM")
    parser.add_argument("--installed", type=int, default=10, help="runs of the installed command, signalled and killed")
    parser.add_argument("--minutes", type=float, default=25, help="no run is begun after so long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="apmctl-kill."))
    counts = (options.runs, options.points, options.signals, options.installed)
    titles = ("killed at random", "killed at a change", "signalled", "installed")
    named = dict(zip(titles, counts, strict=True))
    run(work, named, options.minutes, options.seed, lambda line: sys.stdout.write(f"{line}\n"))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
