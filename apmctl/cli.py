"""The Typer app, its commands, and how the process starts and exits.

Nothing here imports the engine's heavy parts: commands do that in their bodies, so that help is instant.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from apmctl import errors
from apmctl.commands import artifacts, distill, doctor, evaluate, hub, presets, relabel, teachers
from apmctl.output import Sink
from apmctl_core import __version__
from apmctl_core.errors import ConfigError, Interrupted
from apmctl_core.machine import interrupts

app = typer.Typer(
    name="apmctl",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Distil image data sets into small synthetic ones; keep, evaluate and publish them."""
    if version:
        Sink().text(f"apmctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise ConfigError("missing command", "`apmctl --help` lists the commands")


MAKE = "Make and evaluate"
KEEP = "Manage artifacts"
SHARE = "Share"
ABOUT = "About"

app.command("teachers", rich_help_panel=MAKE)(teachers.teachers)
app.command("distill", rich_help_panel=MAKE)(distill.distill)
app.command("relabel", rich_help_panel=MAKE)(relabel.relabel)
app.command("eval", rich_help_panel=MAKE)(evaluate.evaluate)
app.command("list", rich_help_panel=KEEP)(artifacts.list_)
app.command("show", rich_help_panel=KEEP)(artifacts.show)
app.command("verify", rich_help_panel=KEEP)(artifacts.verify)
app.command("rm", rich_help_panel=KEEP)(artifacts.remove)
app.command("push", rich_help_panel=SHARE)(hub.push)
app.command("pull", rich_help_panel=SHARE)(hub.pull)
app.command("presets", rich_help_panel=ABOUT)(presets.presets)
app.command("doctor", rich_help_panel=ABOUT)(doctor.doctor)


def main() -> None:
    """The installed command: run, and exit with its code."""
    code = run(sys.argv[1:])
    if code in (errors.INTERRUPTED, errors.TERMINATED):
        # All is saved and printed; unloading torch would take seconds that whoever stops the process may not grant.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; unforeseen errors keep their traceback."""
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
