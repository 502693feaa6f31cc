"""A session of the engine, opened for the time that a command needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from apmctl import progress
from apmctl.options import Machine
from apmctl.output import Sink

if TYPE_CHECKING:
    from apmctl_core.jobs.pipeline import Session


@contextlib.contextmanager
def opened(machine: Machine, out: Sink) -> Iterator[Session]:
    """The store, the device and the listener of a command. Raises DeviceError for a device that is not available."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.store import Store
        from apmctl_core.jobs.pipeline import Session
        from apmctl_core.machine import runtime

        yield Session(
            store=Store(machine.store),
            runtime=runtime.resolve(machine.device, machine.compile, machine.segment, emit, machine.memory_budget),
            data_path=machine.data,
            emit=emit,
            wait=machine.wait,
        )
