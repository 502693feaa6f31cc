"""The arguments and options that several commands share; none of them affects the result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apmctl import progress
from apmctl.completion import store_of
from apmctl.errors import LINE
from apmctl.output import Sink
from apmctl.signature import SOURCE_PANEL, Values, argument, option, together
from apmctl.text import parse_size
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.store import Store
    from apmctl_core.jobs import Session

RUN_PANEL = "Where and how to run"
OUTPUT_PANEL = "Output"


OpenSession = Callable[[Sink], AbstractContextManager["Session"]]


@contextmanager
def open_session(values: Values, out: Sink) -> Iterator[Session]:
    """A session of the engine whose events `out` prints.

    Raises DeviceError for a device that is not available, ConfigError for a segment or a budget that makes no sense.
    """
    segment, budget = _segment(values["segment"]), _budget(values["memory_budget"])
    with progress.listening(out) as emit:
        from apmctl_core.jobs import Session
        from apmctl_core.machine import runtime

        computing = runtime.resolve(values["device"], values["compile"], segment, budget, values.get("workers"))
        yield Session(
            store=_store(values),
            runtime=computing,
            data_path=values["data"],
            emit=emit,
            wait=not values["no_wait"],
            line=LINE.get(),
            skip_broken=bool(values["skip_broken"]),
            test_path=values.get("test_split"),  # of other commands, it is a part of the recipe
        )


def _store(values: Values) -> Store:
    return store_of(values["store"])


def _segment(text: str) -> int | None:
    """The images per pass; None: what fits into memory."""
    if text != "auto" and not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"--segment must be auto or a number of at least 0, got {text!r}", "0 means no limit")
    return None if text == "auto" else int(text)


def _budget(text: str | None) -> int | None:
    """The bytes of a budget."""
    budget = None if text is None else parse_size(text)
    if text is not None and not budget:
        raise ConfigError(f"--memory-budget must be a size, got {text!r}", "e.g. 800MB, 4GB or 1.5GiB; at most in TB")
    return budget


_REF_HELP = "A name, name@id, a prefix of an id, a path, or hf:owner/name[@revision]."
DATASET = argument(
    "dataset", str | None, "DATASET", "A known name (digits, cifar10, ...), hf:owner/name, or a folder.", None
)
SET = argument("ref", str, "SET", _REF_HELP)
SETS = argument("refs", list[str], "SET...", _REF_HELP)
REF = argument("ref", str, "REF", _REF_HELP)
REFS = argument("refs", list[str], "REF...", _REF_HELP)
LOCAL = argument("ref", str, "REF", "A name, name@id, a prefix of an id, or a path.")

_output = partial(option, OUTPUT_PANEL)
NAME = _output("--name", str | None, "Name of the artifact; one that exists is renamed.", metavar="NAME")
DRY_RUN = _output("--dry-run", bool, "Print what would run, its id, time and memory.", False)
_JSON = _output("--json", bool, "Print one JSON document.", False)
_QUIET = _output("--quiet -q", bool, "Print only the reference.", False)
OUTPUT = together("out", (_JSON, _QUIET), lambda values: Sink(**values))

POOL = option(SOURCE_PANEL, "--teachers", str | None, "The pool of teachers to use.", metavar="POOL")

_run = partial(option, RUN_PANEL)
_DATA_HELP = "Folder of the data set: parquet as on the Hub, or torchvision's files."
_STORE_HELP = "Where artifacts are kept [default: $APMCTL_HOME, else the user's data folder]."
_SEGMENT_HELP = "Maximum images per pass (0 = no limit). Bounds memory; affects only rounding [default: what fits]."
_BUDGET_HELP = "Maximum memory to use, e.g. 4GB; shortens segments if needed [default: free memory]."
_NO_WAIT_HELP = "Exit immediately if another process is building this artifact."
_STORE = _run("--store", Path | None, _STORE_HELP, metavar="DIR", envvar="APMCTL_HOME", show_envvar=False)
_COMPUTE = (
    _run("--device", str, "Device to compute on [default: auto].", "auto", metavar="auto|cpu|cuda|mps"),
    _run("--compile/--no-compile", bool | None, "Use torch.compile [default: where it pays off].", rare=True),
    _run("--segment", str, _SEGMENT_HELP, "auto", rare=True, metavar="N|auto"),
    _run("--memory-budget", str | None, _BUDGET_HELP, rare=True, metavar="SIZE"),
    _run("--no-wait", bool, _NO_WAIT_HELP, False, rare=True),
)
STORE = together("store", (_STORE,), _store)
_DATA = _run("--data", Path | None, _DATA_HELP, metavar="DIR")
_SKIP_BROKEN = _run("--skip-broken", bool | None, "Leave out images of the data set that cannot be decoded.")
_DATA_FILES = (_DATA, _SKIP_BROKEN)
MACHINE = together("open_session", (*_DATA_FILES, _STORE, *_COMPUTE), lambda values: partial(open_session, values))
_TEST_HELP = "Folder of the set's test images, if they lie outside of its data set."
_TEST = _run("--test-split", Path | None, _TEST_HELP, metavar="DIR")
_OF_SET = (_DATA, _TEST, _SKIP_BROKEN, _STORE, *_COMPUTE)
MACHINE_OF_SET = together("open_session", _OF_SET, lambda values: partial(open_session, values))
_WORKERS_HELP = "Networks to train at once, each in a process of its own [default: what is fastest]."
_WORKERS = _run("--workers", int | None, _WORKERS_HELP, rare=True, metavar="N")
MACHINE_OF_REPORT = together("open_session", (*_OF_SET, _WORKERS), lambda values: partial(open_session, values))
COMPUTE = together("machine", (*_DATA_FILES, *_COMPUTE, _WORKERS), dict)
