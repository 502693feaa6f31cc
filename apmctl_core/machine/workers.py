"""Independent pieces of work done at once, by processes with one thread each.

Processes are started afresh, not forked: arithmetic that ran before a fork may hang or fail after it. So what they do
must be picklable, and each needs seconds to begin.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from apmctl_core.errors import MemoryExhaustedError
from apmctl_core.machine import memory

T = TypeVar("T")
R = TypeVar("R")


def each(begin: Callable[[], Callable[[T], R]], items: Sequence[T], count: int) -> Iterator[tuple[T, R]]:
    """What the work that `begin` makes gives for each item, as it is done, by `count` processes.

    Every process calls `begin` once. None outlives the iteration, or this process. Raises what the work raises,
    MemoryExhaustedError where a process is killed.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (begin,))
    try:
        # An interruption from the terminal is sent to all processes: it is for this one to tell the others.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {pool.submit(_work, item): item for item in items}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException as e:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        if isinstance(e, BrokenProcessPool):
            hint = "the system may have run out of memory: use fewer `workers`"
            raise MemoryExhaustedError("a process that trained networks was killed", hint) from e
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_prepare: Callable[[], Callable[[Any], Any]]
_do: Callable[[Any], Any] | None = None


def _begin(begin: Callable[[], Callable[[Any], Any]]) -> None:
    global _prepare
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    memory.keep_freed()
    _prepare = begin


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(item: Any) -> Any:
    global _do
    _do = _do or _prepare()  # not before: what is raised here reaches the one who asked
    return _do(item)
