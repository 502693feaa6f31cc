"""Work done by several processes at once: each item once, no process left over, failures told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psutil
import pytest
import torch

from apmctl_core.errors import ConfigError, MemoryExhaustedError, NumericsError
from apmctl_core.machine import memory, workers
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.runtime import resolve


def begin(what: str) -> Callable[[int], tuple[int, int]]:
    """Work that tells which process did it, and with how many threads; it fails in one of several ways at item 3."""

    if what == "unprepared":
        raise NumericsError("nothing to work on", "look elsewhere")

    def work(item: int) -> tuple[int, int]:
        if item == 3 and what == "error":
            raise NumericsError("item 3 diverged", "try `evaluate.lr`")
        if item == 3 and what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "slow" and item:
            time.sleep(60)
        return os.getpid(), torch.get_num_threads()

    return work


@pytest.mark.slow
def test_every_item_is_done_once_by_processes_with_one_thread() -> None:
    done = dict(workers.each(partial(begin, ""), range(8), 2))
    assert sorted(done) == list(range(8))
    assert len({pid for pid, _ in done.values()}) <= 2
    assert {threads for _, threads in done.values()} == {1}
    assert os.getpid() not in {pid for pid, _ in done.values()}


@pytest.mark.slow
def test_what_fails_in_a_process_is_raised_with_its_hint() -> None:
    with pytest.raises(NumericsError, match="item 3 diverged"):
        dict(workers.each(partial(begin, "error"), range(8), 2))
    with pytest.raises(NumericsError, match="nothing to work on"):  # before the first item, too
        dict(workers.each(partial(begin, "unprepared"), range(8), 2))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(MemoryExhaustedError, match="was killed") as caught:
        dict(workers.each(partial(begin, "killed"), range(8), 2))
    assert "`workers`" in caught.value.hint
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_who_stops_listening_leaves_no_process_behind_and_spares_others() -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    results = workers.each(partial(begin, "slow"), range(4), 2)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 5
    assert multiprocessing.active_children() == [other]
    other.kill()
    other.join()


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them() -> None:
    code = (
        "from functools import partial; from tests.apmctl_core.machine.test_workers import begin, workers\n"
        "if __name__ == '__main__':\n"
        "    for item, (pid, _) in workers.each(partial(begin, 'slow'), range(4), 2): print(pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=10)


COST = Cost(flops=1e15, step_flops=1e9, networks=20, steps=10_000, image_bytes=1e6)


@pytest.mark.parametrize(
    ("changes", "workers", "wanted"),
    [
        ({}, None, 8),
        ({}, 3, 3),
        ({}, 1, 1),
        ({"networks": 2}, None, 2),
        ({"networks": 2}, 3, 2),
        ({"networks": 1}, 3, 1),
        ({"step_flops": 7e9}, None, 8),
        ({"step_flops": 9e9}, None, 1),  # its steps use all cores as they are
        ({"step_flops": 1e11}, 4, 4),
        ({"flops": 1e10, "steps": 1000}, None, 1),  # it ends before the processes have begun
        ({"flops": 1e10, "steps": 100_000}, None, 8),
        ({"image_bytes": 2.2e9}, None, 3),  # of 10 GB
        ({"image_bytes": 1e12}, None, 1),
    ],
)
def test_as_many_work_as_is_fastest(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, float], workers: int | None, wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(memory, "free", lambda device: 10_000_000_000)
    runtime = resolve("cpu", compile=False, segment=0, workers=workers).for_cost(replace(COST, **changes))  # type: ignore[arg-type]
    assert runtime.workers == wanted
    assert wanted == 1 or torch.get_num_threads() == 1


def test_where_memory_is_watched_networks_train_one_after_the_other() -> None:
    assert resolve("cpu", compile=False, memory_budget=10**13, workers=None).for_cost(COST).workers == 1


def test_no_worker_is_nonsense() -> None:
    with pytest.raises(ConfigError, match="`workers` must be at least 1, got 0"):
        resolve("cpu", workers=0)
