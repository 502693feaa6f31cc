"""`apmctl presets`: named settings, as a table or as a file for `--config`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from apmctl import options
from apmctl.blocks import Block, Table
from apmctl.output import Sink
from apmctl.signature import takes
from apmctl_core.config import to_dict

_Recipe = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Presets:
    """All presets by their names."""

    command: str = "presets"
    presets: Mapping[str, _Recipe]

    def brief(self) -> str:
        return "\n".join(self.presets)

    def blocks(self) -> Iterator[Block]:
        headers = ("preset", "data", "ipc", "network", "teachers", "rounds", "student epochs", "eval epochs")
        rows = [_row(name, recipe) for name, recipe in self.presets.items()]
        yield Table(headers, rows, right=("ipc", *headers[5:]), spare=("data", "eval epochs", "teachers"))


def _row(name: str, recipe: _Recipe) -> tuple[object, ...]:
    model, distill, teachers = recipe["model"], recipe["distill"], recipe["teachers"]
    return (
        name,
        recipe["data"]["dataset"],
        distill["ipc"],
        f"{model['arch']} x{model['width']}",
        f"{teachers['count']} x {teachers['epochs']} epochs",
        distill["rounds"],
        distill.get("student", {}).get("epochs", "-"),
        recipe["evaluate"]["epochs"],
    )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One preset, which people get as TOML."""

    command: str = "presets"
    name: str
    recipe: _Recipe

    def brief(self) -> str:
        import tomli_w

        return tomli_w.dumps(self.recipe).rstrip()

    def blocks(self) -> Iterator[Block]:
        yield from self.brief().splitlines()


@takes(options.OUTPUT)
def presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this preset as TOML.")] = None, *, out: Sink
) -> None:
    """List the presets, or print one as a TOML file for `--config`."""
    from apmctl_core.config.presets import PRESETS, preset

    if name is not None:
        out.result(Preset(name=name, recipe=to_dict(preset(name))))
    else:
        out.result(Presets(presets={key: to_dict(recipe) for key, recipe in PRESETS.items()}))
