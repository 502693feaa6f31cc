"""`apmctl presets`: named settings, as a table or as a file for `--config`."""

from __future__ import annotations

from typing import Annotated

import typer

from apmctl import options
from apmctl.output import Sink
from apmctl.signature import takes
from apmctl.text import table
from apmctl_core.config import ApmConfig, Recipe, to_dict


@takes(options.OUTPUT)
def presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one as TOML.")] = None, *, out: Sink
) -> None:
    """List the named settings, or print one as a TOML file that `--config` takes."""
    from apmctl_core.config.presets import PRESETS, preset

    if name is not None:
        recipe = to_dict(preset(name))
        out.result({"command": "presets", "name": name, "recipe": recipe}, *2 * (_toml(recipe),))
        return
    recipes = {known: make() for known, make in PRESETS.items()}
    document = {"command": "presets", "presets": {known: to_dict(recipe) for known, recipe in recipes.items()}}
    out.result(document, _table(recipes), "\n".join(recipes))


def _toml(recipe: dict[str, object]) -> str:
    import tomli_w

    return tomli_w.dumps(recipe).rstrip()


def _table(recipes: dict[str, Recipe]) -> str:
    headers = ("preset", "data", "ipc", "network", "teachers", "rounds", "student epochs", "eval epochs")
    rows = [
        (
            name,
            r.data.dataset,
            r.distill.ipc,
            f"{r.model.arch} x{r.model.width}",
            f"{r.teachers.count} x {r.teachers.epochs} epochs",
            r.distill.rounds,
            r.distill.student.epochs if isinstance(r.distill, ApmConfig) else "-",
            r.evaluate.epochs,
        )
        for name, r in recipes.items()
    ]
    return table(headers, rows, right=(2, 5, 6, 7))
