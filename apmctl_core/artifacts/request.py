"""How an unfinished run was asked for: `run.json` in its folder, by which the same can be asked for again.

Plain values alone, read as from a stranger. They say what to make, never what to execute, and are no part of the
artifact: publishing removes the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from apmctl_core.artifacts.manifest import convert
from apmctl_core.errors import ArtifactError, StoreError
from apmctl_core.storage import strict_json
from apmctl_core.storage.files import open_regular, read_bounded, write_bytes

FILE = "run.json"
MAX_BYTES = 1 << 18
_MAX_LINE = 2000

_Text = Annotated[str, Meta(max_length=4096)]
# Names may mean other artifacts by now, and a repository must not be asked for what a file says.
_Source = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{12}|/.*)\Z", max_length=4096)]
_Count = Annotated[int, Meta(ge=0)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the actions that make artifacts, with all that it was given.

    `target` is the name@id of what it makes in the end: a run of it may be that of a pool which it needs first.
    `recipe` is settled, save that its data set is where it lies; `set` and `pool` are ids in the store or absolute
    paths; `changes` are those of an evaluation. `data_path` and `test_path` say where the data and a set's test images
    lie, `skip_broken` whether images that cannot be decoded are left out; `device` to `memory_budget` are of the
    machine, as in a runtime. `needs` are the ids of what the target is made from; `summary` says in a few words what
    the run does, `line` what a person typed: both are only shown.
    """

    schema: Literal[1] = 1
    action: Literal["teachers", "distill", "relabel", "eval"]
    target: _Text
    name: _Text | None = None
    recipe: dict[str, Any] = {}
    set: _Source | None = None
    pool: _Source | None = None
    committee: _Text = "mean"
    changes: dict[str, Any] = {}
    data_path: _Source | None = None
    test_path: _Source | None = None
    skip_broken: bool = False
    device: _Text = "auto"
    compile: bool | None = None
    segment: _Count | None = None
    memory_budget: _Count | None = None
    workers: _Count | None = None
    needs: tuple[_Text, ...] = ()
    summary: _Text = ""
    line: _Text = ""


def write(folder: Path, request: Request) -> None:
    """Write the request of a run into its folder. Raises StoreError."""
    line = strict_json.printable(request.line)[:_MAX_LINE]
    values = msgspec.to_builtins(msgspec.structs.replace(request, line=line))
    write_bytes(folder / FILE, json.dumps(values, indent=1, sort_keys=True).encode() + b"\n")


def read(folder: Path) -> Request | None:
    """The request of the run in a folder, None where there is none that can be used: older versions wrote none."""
    try:
        return _parse(read_bounded(folder / FILE, MAX_BYTES), folder / FILE)
    except (ArtifactError, StoreError):
        return None


def read_own(folder: Path) -> Request:
    """The same, to be carried out: the file must be this user's own.

    In a store that several people write to, another's file would decide what is read with this user's rights. Raises
    ArtifactError where it is missing, damaged or another user's.
    """
    path = folder / FILE
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_uid != os.getuid():
            problem = f"{folder.name.strip('.').partition('.')[0]} was begun by another user"
            raise ArtifactError(problem, "`show` says how; run that yourself to resume")
        return _parse(file.read(MAX_BYTES), path)  # of one that is longer, this is no JSON


def _parse(data: bytes, path: Path) -> Request:
    return convert(strict_json.parse_object(data, str(path)), Request, str(path))
