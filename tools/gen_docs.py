"""Write docs/commands.md from the commands themselves; with `--check`, fail where it differs from them.

The text comes from the declarations that Typer reads, not from its rendering, which changes from version to version.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apmctl.cli import app

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
WIDTH = 100
HEAD = """\
# Commands

<!-- Written by `make docs` from the commands themselves; changes by hand are lost. -->

Results go to stdout, everything else to stderr; [scripting.md](scripting.md) has the JSON, the exit codes and the
environment variables. `[preset's or 10]` means: what the preset says that fits the data set and `--ipc`, and 10 where
it says nothing. Values are taken from the preset, then `--config FILE`, then flags; the later ones win.
"""


@dataclass(frozen=True)
class Entry:
    """One argument or option of a command: as it is written, what it means, the panel that it stands in."""

    usage: str
    text: str
    panel: str
    is_argument: bool


def entry_of(param: inspect.Parameter) -> Entry:
    """The entry of a parameter, whose annotation carries what Typer shows."""
    _, info = typing.get_args(param.annotation)
    text = (info.help or "").replace("\\[", "[")
    decls = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str) and d.startswith("-")]
    if not decls:
        required = param.default is inspect.Parameter.empty
        return Entry(info.metavar if required else f"[{info.metavar}]", text, "Arguments", True)
    metavar = f" {info.metavar}" if info.metavar else ""
    return Entry(", ".join(decls) + metavar, text, info.rich_help_panel or "Options", False)


def block(entries: list[Entry]) -> str:
    """Entries of one panel in two columns; a usage too wide for the first has a line of its own."""
    lines = []
    column = 30
    for entry in entries:
        wrapped = textwrap.wrap(entry.text, WIDTH - column, break_on_hyphens=False) or [""]
        first = f"  {entry.usage}"
        if len(first) > column - 2:
            lines.append(first)
            first = ""
        lines.append(f"{first:<{column}}{wrapped[0]}".rstrip())
        lines += [" " * column + line for line in wrapped[1:]]
    return "\n".join(lines)


def section(name: str, callback: Any) -> str:
    """The part of the page on one command."""
    entries = [entry_of(param) for param in inspect.signature(callback).parameters.values()]
    arguments = " ".join(entry.usage for entry in entries if entry.is_argument)
    panels: dict[str, list[Entry]] = {}
    for entry in entries:
        panels.setdefault(entry.panel, []).append(entry)
    text = "\n\n".join(f"{panel}:\n{block(found)}" for panel, found in panels.items())
    usage = f"apmctl {name} [OPTIONS] {arguments}".rstrip()
    return f"## apmctl {name}\n\n{inspect.getdoc(callback)}\n\n```text\n{usage}\n\n{text}\n```\n"


def page() -> str:
    """The whole page."""
    sections = [section(c.name or "", c.callback) for c in app.registered_commands]
    return "\n".join([HEAD, *sections])


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with the one that is there."""
    if "--check" not in arguments:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(page(), encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page():
        return 0
    name = TARGET.relative_to(Path.cwd()) if TARGET.is_relative_to(Path.cwd()) else TARGET
    sys.stderr.write(f"{name} is not what the commands say; `make docs` writes it\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
