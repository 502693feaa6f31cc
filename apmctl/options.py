"""The arguments and options that several commands share; none of them decides a result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from apmctl.output import Sink
from apmctl.signature import SOURCE_PANEL, Group, Values, option
from apmctl.text import parse_size
from apmctl_core.errors import ConfigError

RUN_PANEL = "Where and how to run"
OUTPUT_PANEL = "Output"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where artifacts are kept and what computes; none of it decides a result."""

    store: Path
    device: str
    compile: bool | None
    segment: int | None  # None: as memory demands
    memory_budget: int | None  # bytes
    wait: bool
    data: Path | None


DatasetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATASET", help="A known name (digits, cifar10, ...), hf:owner/name, or a folder.", show_default=False
    ),
]
_REF_HELP = r"A name, name@id, the start of an id, a path, or hf:owner/name\[@revision]."
SetArgument = Annotated[str, typer.Argument(metavar="SET", help=_REF_HELP)]
RefArgument = Annotated[str, typer.Argument(metavar="REF", help=_REF_HELP)]
LocalArgument = Annotated[str, typer.Argument(metavar="REF", help="A name, name@id, the start of an id, or a path.")]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the artifact.", rich_help_panel=OUTPUT_PANEL)
]
PoolOption = Annotated[
    str | None,
    typer.Option(
        "--teachers", metavar="POOL", help="The pool to use, named as artifacts are.", rich_help_panel=SOURCE_PANEL
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would run, its id, time and memory.", rich_help_panel=OUTPUT_PANEL),
]

_JSON = option("json", bool, "--json", default=False, help="Print one JSON document.", rich_help_panel=OUTPUT_PANEL)
_QUIET = option(
    "quiet", bool, "--quiet", "-q", default=False, help="Print the bare essential.", rich_help_panel=OUTPUT_PANEL
)
_STORE = option(
    "store",
    Path | None,
    "--store",
    metavar="DIR",
    envvar="APMCTL_HOME",
    show_envvar=False,
    help="Where artifacts are kept [default: $APMCTL_HOME, else the user's data folder].",
    rich_help_panel=RUN_PANEL,
)
_DEVICE = option(
    "device",
    str,
    "--device",
    default="auto",
    metavar="auto|cpu|cuda|mps",
    help="What computes [default: auto].",
    rich_help_panel=RUN_PANEL,
)
_COMPILE = option(
    "compile",
    bool | None,
    "--compile/--no-compile",
    help="Use torch.compile [default: where it pays].",
    rich_help_panel=RUN_PANEL,
)
_NO_WAIT = option(
    "no_wait",
    bool,
    "--no-wait",
    default=False,
    help="Leave at once where another process makes the same artifact.",
    rich_help_panel=RUN_PANEL,
)
_SEGMENT = option(
    "segment",
    str,
    "--segment",
    default="auto",
    metavar="N|auto",
    help="Most images in one pass (0: all); bounds memory, changes rounding alone [default: auto, what fits].",
    rich_help_panel=RUN_PANEL,
)
_BUDGET = option(
    "memory_budget",
    str | None,
    "--memory-budget",
    metavar="SIZE",
    help="Most memory to take, e.g. 4GB, with shorter segments where needed [default: what is free].",
    rich_help_panel=RUN_PANEL,
)
_DATA = option(
    "data",
    Path | None,
    "--data",
    metavar="DIR",
    help="Where the data set lies on disk: parquet as on the Hub, or torchvision's files.",
    rich_help_panel=RUN_PANEL,
)
OUTPUT = Group("out", (_JSON, _QUIET), lambda v: Sink(json=v["json"], quiet=v["quiet"]))
STORE = Group("store", (_STORE,), lambda v: store_root(v["store"]))


def machine() -> Group:
    """The options of a command that computes."""
    return Group("machine", (_DATA, _STORE, _DEVICE, _COMPILE, _SEGMENT, _BUDGET, _NO_WAIT), _machine)


def _machine(values: Values) -> Machine:
    return Machine(
        store=store_root(values["store"]),
        device=values["device"],
        compile=values["compile"],
        segment=_segment(values["segment"]),
        memory_budget=_budget(values["memory_budget"]),
        wait=not values["no_wait"],
        data=values["data"],
    )


def _segment(text: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"--segment must be auto or a number of at least 0, got {text!r}", "0 keeps a batch whole")
    return int(text)


def _budget(text: str | None) -> int | None:
    if text is None:
        return None
    found = parse_size(text)
    if not found:
        raise ConfigError(f"--memory-budget must be a size, got {text!r}", "e.g. 800MB, 4GB or 1.5GiB; at most in TB")
    return found


def store_root(given: Path | None) -> Path:
    """The store that was named, else the one of this user."""
    if given is not None:
        return given.expanduser()
    from apmctl_core.storage.home import user_store

    return user_store()
