"""What to do where a plan takes long: another machine, another preset, less work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from apmctl_core.config import Recipe, from_dict
from apmctl_core.config.presets import PRESETS

LONG = 3 * 3600.0  # seconds
# An assumption: about a hundredth of what a data-centre GPU multiplies in bf16, since small networks do not fill it.
_GPU_FLOPS = 1e13
_LESS = 0.5  # what takes more than this share of the time is no way out
_FEWER: dict[str, dict[str, dict[str, Any]]] = {
    "teachers": {"model": {"width": 32}, "teachers": {"count": 4, "epochs": 30}},
    "distill": {"model": {"width": 32}, "teachers": {"count": 4, "epochs": 30}, "distill": {"rounds": 240}},
}

Seconds = Callable[[Recipe], float]


@dataclass(frozen=True)
class Advice:
    """Something that takes `seconds` instead.

    `gpu`: the same work by an assumed rate · `preset` of the same data set · `settings` with less work.
    """

    kind: Literal["gpu", "preset", "settings"]
    what: str
    seconds: float


def advise(
    recipe: Recipe, command: str, flops: float, seconds: float, device: torch.device, ask: Seconds
) -> list[Advice]:
    """Ways out of work that takes so many operations and seconds; `ask` tells the seconds of another recipe here.

    Empty for work that does not take long.
    """
    if seconds < LONG:
        return []
    ways = [Advice("gpu", "on a GPU at 10 TFLOP/s (assumed; none was measured)", flops / _GPU_FLOPS)]
    ways = ways if device.type == "cpu" else []
    smaller = _preset(recipe)
    if smaller is not None and (less := ask(PRESETS[smaller])) < _LESS * seconds:
        return [*ways, Advice("preset", f"preset {smaller}", less)]
    fewer = _fewer(recipe, command)
    if fewer and (less := ask(from_dict(Recipe, fewer, recipe))) < _LESS * seconds:
        what = ", ".join(
            f"`{table}.{name} {value}`" for table, values in fewer.items() for name, value in values.items()
        )
        return [*ways, Advice("settings", what, less)]
    return ways


def _preset(recipe: Recipe) -> str | None:
    """The preset of the same data set with the narrowest network and the fewest images, if it is a smaller one."""

    def extent(other: Recipe) -> tuple[int, int, int]:
        return other.model.width, other.distill.ipc, other.distill.rounds

    same = {name: other for name, other in PRESETS.items() if other.data.dataset == recipe.data.dataset}
    name = min(same, key=lambda each: extent(same[each]), default=None)
    return name if name is not None and extent(same[name]) < extent(recipe) else None


def _fewer(recipe: Recipe, command: str) -> dict[str, dict[str, int]]:
    """Settings for less work, where the recipe has more."""
    fewer: dict[str, dict[str, int]] = {}
    for table, values in _FEWER[command].items():
        own = getattr(recipe, table)
        less = {name: value for name, value in values.items() if getattr(own, name) > value}
        fewer |= {table: less} if less else {}
    return fewer
