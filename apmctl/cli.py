"""The Typer app, its commands, and how the process starts and exits.

Nothing here imports the engine's heavy parts: commands do that in their bodies, so that help is instant.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from apmctl import errors, results
from apmctl.commands.about import doctor, presets
from apmctl.commands.compare import compare
from apmctl.commands.hub import pull, push
from apmctl.commands.look import list_, verify
from apmctl.commands.make import distill, evaluate, relabel, teachers
from apmctl.commands.removal import gc, remove
from apmctl.commands.rename import rename
from apmctl.commands.runs import resume
from apmctl.commands.show import show
from apmctl.help import Command, Group
from apmctl.output import Sink
from apmctl_core import __version__
from apmctl_core.errors import Interrupted
from apmctl_core.machine import interrupts

_CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(name="apmctl", cls=Group, pretty_exceptions_enable=False, context_settings=_CONTEXT)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Distil image data sets into small synthetic ones; keep, evaluate and publish them."""
    if version:
        Sink().text(f"apmctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        # As gh and docker do; usage errors are for what is wrong, and nothing is.
        typer.echo(context.get_help())


_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Make and evaluate": {
        "teachers": teachers,
        "distill": distill,
        "relabel": relabel,
        "eval": evaluate,
        "compare": compare,
        "resume": resume,
    },
    "Manage artifacts": {
        "list": list_,
        "show": show,
        "verify": verify,
        "rename": rename,
        "rm": remove,
        "gc": gc,
    },
    "Share": {"push": push, "pull": pull},
    "About": {"presets": presets, "doctor": doctor},
}
for panel, commands in _PANELS.items():
    for name, command in commands.items():
        app.command(name, cls=Command, rich_help_panel=panel)(command)


def main() -> None:
    """The installed command: run, and exit with its code."""
    code = run(sys.argv[1:])
    if code > errors.SIGNALLED:
        # All is saved and printed; unloading torch would take seconds that whoever stops the process may not grant.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; unforeseen errors keep their traceback."""
    results.BEGAN.set(time.monotonic())
    errors.RUNNING.set(arguments[0] if arguments else "")
    errors.LINE.set(shlex.join(["apmctl", *arguments]))
    try:
        interrupts.install()
        code = app(args=list(arguments), prog_name="apmctl", standalone_mode=False)
    except (Exception, KeyboardInterrupt, Interrupted) as e:
        interrupts.restore()
        failure = errors.describe(e, *arguments[:1])
        if failure is None:
            raise
        # The command may not have parsed its own options.
        Sink(json="--json" in arguments).failure(failure)
        return failure.exit_code
    return code if isinstance(code, int) else errors.DONE
