"""How help looks: what to give stands beside an option, and rare options stand in `--help-all` alone."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _Plain:
    """Without the Python types that Typer prints beside flags and arguments: nothing is to be given there."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if param.param_type_name == "argument" or param.is_flag:
                param.display_type_rich = lambda ctx: None  # noqa: ARG005
        return params


class Command(_Plain, TyperCommand):
    """A command in help."""


class Group(_Plain, TyperGroup):
    """The group of all commands in help."""


def show_all(context: typer.Context, wanted: bool) -> None:
    """What `--help-all` does: print help with the options that `--help` leaves out, and exit."""
    if wanted:
        for param in context.command.params:
            param.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit
