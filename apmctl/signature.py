"""Commands whose options are declared in groups: `takes` turns groups into the signature that Typer reads.

A group collects its options into one value, so a command gets one argument a group instead of one an option.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

Values = Mapping[str, Any]
SOURCE_PANEL = "Settings from elsewhere"


@dataclass(frozen=True)
class Group:
    """Options that belong together: `collect` makes of their values the argument `name` of the command."""

    name: str
    params: tuple[inspect.Parameter, ...]
    collect: Callable[[Values], Any]


def takes(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `groups` in place of its parameters of their names."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(command, include_extras=True)
        collected = {group.name for group in groups}
        signature = inspect.signature(command)
        own = [p.replace(annotation=hints[n]) for n, p in signature.parameters.items() if n not in collected]
        made = [param for group in groups for param in group.params]
        parameters = [*(p for p in own if not _is_option(p)), *made, *(p for p in own if _is_option(p))]

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            arguments = {p.name: values[p.name] for p in own}
            arguments |= {g.name: g.collect({p.name: values[p.name] for p in g.params}) for g in groups}
            command(**arguments)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def _is_option(param: inspect.Parameter) -> bool:
    return param.kind is inspect.Parameter.KEYWORD_ONLY


def option(name: str, kind: Any, *decls: str, default: Any = None, **info: Any) -> inspect.Parameter:
    """A parameter that Typer takes for an option; square brackets in its help are text, not markup."""
    info["help"] = info["help"].replace("[", r"\[")
    annotation = Annotated[kind, typer.Option(*decls, show_default=False, **info)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
