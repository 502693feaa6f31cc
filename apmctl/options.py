"""The arguments and options that several commands share; none of them affects the result."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apmctl import progress
from apmctl.output import Sink
from apmctl.signature import SOURCE_PANEL, Group, Values, option
from apmctl.text import parse_size
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.jobs import Session

RUN_PANEL = "Where and how to run"
OUTPUT_PANEL = "Output"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where artifacts are kept and what computes."""

    store: Path
    device: str
    compile: bool | None
    segment: int | None  # images per pass; None: what fits into memory
    memory_budget: int | None  # bytes
    no_wait: bool
    data: Path | None

    @contextlib.contextmanager
    def session(self, out: Sink) -> Iterator[Session]:
        """A session of the engine whose events `out` prints. Raises DeviceError for a device that is not available."""
        with progress.listening(out) as emit:
            from apmctl_core.artifacts.store import Store
            from apmctl_core.jobs import Session
            from apmctl_core.machine import runtime

            computing = runtime.resolve(self.device, self.compile, self.segment, self.memory_budget)
            yield Session(
                store=Store(self.store), runtime=computing, data_path=self.data, emit=emit, wait=not self.no_wait
            )


_DATASET_HELP = "A known name (digits, cifar10, ...), hf:owner/name, or a folder."
_REF_HELP = r"A name, name@id, a prefix of an id, a path, or hf:owner/name\[@revision]."
_LOCAL_HELP = "A name, name@id, a prefix of an id, or a path."
_DRY_RUN_HELP = "Print what would run, its id, time and memory."

DatasetArgument = Annotated[str | None, typer.Argument(metavar="DATASET", help=_DATASET_HELP, show_default=False)]
SetArgument = Annotated[str, typer.Argument(metavar="SET", help=_REF_HELP)]
RefArgument = Annotated[str, typer.Argument(metavar="REF", help=_REF_HELP)]
LocalArgument = Annotated[str, typer.Argument(metavar="REF", help=_LOCAL_HELP)]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the artifact.", rich_help_panel=OUTPUT_PANEL)
]
PoolOption = Annotated[
    str | None,
    typer.Option("--teachers", metavar="POOL", help="The pool of teachers to use.", rich_help_panel=SOURCE_PANEL),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help=_DRY_RUN_HELP, rich_help_panel=OUTPUT_PANEL)]


def flag(panel: str, decls: str, kind: Any, text: str, **info: Any) -> inspect.Parameter:
    """An option of a panel by its flags, e.g. `--json` or `--quiet -q`; the first of them names the parameter."""
    name = decls.split()[0].split("/")[0].removeprefix("--").replace("-", "_")
    return option(name, kind, *decls.split(), help=text, rich_help_panel=panel, **info)


_JSON = flag(OUTPUT_PANEL, "--json", bool, "Print one JSON document.", default=False)
_QUIET = flag(OUTPUT_PANEL, "--quiet -q", bool, "Print only the reference.", default=False)

_run = partial(flag, RUN_PANEL)
_STORE = _run(
    "--store",
    Path | None,
    "Where artifacts are kept [default: $APMCTL_HOME, else the user's data folder].",
    metavar="DIR",
    envvar="APMCTL_HOME",
    show_envvar=False,
)
_DATA = _run(
    "--data", Path | None, "Folder of the data set: parquet as on the Hub, or torchvision's files.", metavar="DIR"
)
_SEGMENT_HELP = (
    "Maximum images per pass (0 = no limit). Bounds memory; affects only rounding [default: auto, what fits]."
)
_BUDGET_HELP = "Maximum memory to use, e.g. 4GB; shortens segments if needed [default: free memory]."
_COMPUTE = (
    _run("--device", str, "Device to compute on [default: auto].", default="auto", metavar="auto|cpu|cuda|mps"),
    _run("--compile/--no-compile", bool | None, "Use torch.compile [default: where it pays off]."),
    _run("--segment", str, _SEGMENT_HELP, default="auto", metavar="N|auto"),
    _run("--memory-budget", str | None, _BUDGET_HELP, metavar="SIZE"),
    _run("--no-wait", bool, "Exit immediately if another process is building this artifact.", default=False),
)


def _machine(values: Values) -> Machine:
    store, segment, budget = values["store"], values["segment"], values["memory_budget"]
    parsed = {"store": store_root(store), "segment": _segment(segment), "memory_budget": _budget(budget)}
    return Machine(**{**values, **parsed})


def _segment(text: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"--segment must be auto or a number of at least 0, got {text!r}", "0 means no limit")
    return int(text)


def _budget(text: str | None) -> int | None:
    budget = None if text is None else parse_size(text)
    if text is not None and not budget:
        raise ConfigError(f"--memory-budget must be a size, got {text!r}", "e.g. 800MB, 4GB or 1.5GiB; at most in TB")
    return budget


def store_root(given: Path | None) -> Path:
    """The store that was given, else the one of this user."""
    if given is not None:
        return given.expanduser()
    from apmctl_core.storage.files import user_store

    return user_store()


OUTPUT = Group("out", (_JSON, _QUIET), lambda v: Sink(json=v["json"], quiet=v["quiet"]))
STORE = Group("store", (_STORE,), lambda v: store_root(v["store"]))
MACHINE = Group("machine", (_DATA, _STORE, *_COMPUTE), _machine)
