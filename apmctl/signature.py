"""How commands declare what they take: `takes` turns groups of options into the signature that Typer reads.

A group collects its options into one value, so a command gets one argument a group instead of one an option.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any

import typer

from apmctl.completion import completer
from apmctl.help import show_all

Values = Mapping[str, Any]
SOURCE_PANEL = "Start from"
_Command = Callable[..., None]


@dataclass(frozen=True)
class Group:
    """Parameters that belong together: `collect` makes of their values the argument `name` of the command."""

    name: str
    params: tuple[inspect.Parameter, ...]
    collect: Callable[[Values], Any]


def takes(*groups: Group) -> Callable[[_Command], _Command]:
    """Give a command the options of `groups` in place of its parameters, which have their names."""

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            command(**{g.name: g.collect({p.name: values[p.name] for p in g.params}) for g in groups})

        parameters = [param for group in groups for param in group.params]
        if any(typing.get_args(param.annotation)[1].hidden for param in parameters):
            parameters.append(_HELP_ALL)
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def together(name: str, members: Iterable[Group], collect: Callable[[Values], Any]) -> Group:
    """The parameters of several groups as one group."""
    return Group(name, tuple(param for member in members for param in member.params), collect)


def option(
    panel: str | None, flags: str, kind: Any, help: str, default: Any = None, *, rare: bool = False, **info: Any
) -> Group:
    """An option by its flags, e.g. `--quiet -q` or `--compile/--no-compile`; the first of them names the parameter.

    A `rare` one stands in `--help-all` alone.
    """
    name = flags.split()[0].split("/")[0].removeprefix("--").replace("-", "_")
    how = {"show_default": False, "rich_help_panel": panel, "hidden": rare, **info}
    return _single(name, kind, typer.Option(*flags.split(), help=help, **how), default)


def argument(name: str, kind: Any, metavar: str, help: str, default: Any = inspect.Parameter.empty) -> Group:
    """A positional argument, which is required if it has no default."""
    return _single(name, kind, typer.Argument(metavar=metavar, help=help, show_default=False), default)


def _single(name: str, kind: Any, declared: Any, default: Any) -> Group:
    declared.help = declared.help.replace("[", r"\[")  # square brackets are text, not markup
    declared.autocompletion = completer(declared.metavar)
    keyword, annotation = inspect.Parameter.KEYWORD_ONLY, Annotated[kind, declared]
    parameter = inspect.Parameter(name, keyword, default=default, annotation=annotation)
    return Group(name, (parameter,), itemgetter(name))


(_HELP_ALL,) = option(None, "--help-all", bool, "Show all options.", False, callback=show_all, is_eager=True).params
