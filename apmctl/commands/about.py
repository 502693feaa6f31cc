"""`apmctl presets` and `apmctl doctor`: what apmctl knows, and whether this machine is ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from apmctl import errors
from apmctl.blocks import Block, Table
from apmctl.options import OUTPUT, STORE
from apmctl.output import Sink
from apmctl.results import Document
from apmctl.signature import argument, takes
from apmctl_core.config import to_dict

if TYPE_CHECKING:
    from apmctl_core.artifacts.store import Store
    from apmctl_core.machine.diagnosis import Check

_Recipe = Mapping[str, Any]


class Presets(Document):
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
    network, pool = f"{model['arch']} x{model['width']}", f"{teachers['count']} x {teachers['epochs']} epochs"
    epochs = distill.get("student", {}).get("epochs", "-"), recipe["evaluate"]["epochs"]
    return name, recipe["data"]["dataset"], distill["ipc"], network, pool, distill["rounds"], *epochs


class Preset(Document):
    """One preset, which people get as TOML."""

    command: str = "presets"
    name: str
    recipe: _Recipe

    def brief(self) -> str:
        import tomli_w

        return tomli_w.dumps(self.recipe).rstrip()

    def blocks(self) -> Iterator[Block]:
        yield from self.brief().splitlines()


@takes(argument("name", str | None, "PRESET", "Print this preset as TOML.", None), OUTPUT)
def presets(name: str | None, out: Sink) -> None:
    """List the presets, or print one as a TOML file for `--config`."""
    from apmctl_core.config.presets import PRESETS, preset

    if name is not None:
        out.result(Preset(name=name, recipe=to_dict(preset(name))))
    else:
        out.result(Presets(presets={key: to_dict(recipe) for key, recipe in PRESETS.items()}))


class Diagnosis(Document):
    """What was checked."""

    command: str = "doctor"
    ok: bool
    checks: Sequence[Check]

    def brief(self) -> str:
        return "ok" if self.ok else "\n".join(f"{c.name}: error" for c in self.checks if c.status == "error")

    def blocks(self) -> Iterator[Block]:
        rows = [(check.name, check.status, check.detail) for check in self.checks]
        yield Table(("check", "status", "detail"), rows, wrap=("detail",))
        yield from (f"{check.name}: {errors.translate(check.hint, '')}" for check in self.checks if check.hint)


@takes(STORE, OUTPUT)
def doctor(store: Store, out: Sink) -> None:
    """Check versions, device, precision, the compiler, the store and the Hub login."""
    from apmctl import checks

    results = checks.everything(store.root)
    ok = all(check.status != "error" for check in results)
    out.result(Diagnosis(ok=ok, checks=results))
    if not ok:
        raise typer.Exit(errors.FAILED)
