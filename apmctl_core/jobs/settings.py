"""From a data set, a preset, a file and flags to a recipe, and to one with nothing left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from apmctl_core.config import DataConfig, ModelConfig, Recipe, from_dict
from apmctl_core.config.presets import image_step, preset, recipe_for
from apmctl_core.config.toml import blaming
from apmctl_core.data import Dataset
from apmctl_core.data.fitting import variance
from apmctl_core.data.source import KNOWN
from apmctl_core.errors import ConfigError
from apmctl_core.events import Emit, Note, silent
from apmctl_core.models import ARCHITECTURES
from apmctl_core.models.convnet import deepest


def resolve(
    dataset: str | None,
    *,
    preset_name: str | None = None,
    toml: dict[str, Any] | None = None,
    flags: dict[str, Any] | None = None,
    file: Path | None = None,
    emit: Emit = silent,
) -> tuple[Recipe, str]:
    """A recipe from a preset, a configuration file and flags, in that order of precedence, and where it began.

    `toml`, which was read from `file`, and `flags` are nested like `to_dict(Recipe)`. Where the batch or the IPC is
    changed and the image learning rate is not given, the rate scales with B. Raises ConfigError for nonsense.
    """
    toml, flags = dict(toml or {}), flags or {}
    in_file = toml.pop("preset", None)
    preset_name = in_file if preset_name is None else preset_name
    with blaming(file):
        toml, dataset = _with_dataset(toml, dataset)
    if preset_name is not None:
        with blaming(file if preset_name is in_file else None):
            base, origin = preset(preset_name), f"preset {preset_name}"
        if dataset and dataset != base.data.dataset:
            emit(Note(text=f"preset {preset_name} is for {base.data.dataset}; using it on {dataset}"))
            base, origin = _moved(base, dataset), f"preset {preset_name} on {dataset}"
    elif dataset:
        with blaming(file):
            of_file = from_dict(Recipe, toml, recipe_for(dataset)[0])
        base, origin = recipe_for(dataset, from_dict(Recipe, flags, of_file).distill.ipc)
    else:
        raise ConfigError("no data set is named", "name one, e.g. digits, or a preset")
    with blaming(file):
        recipe = _layered(base, toml)
    return _layered(recipe, flags, pinned="image_lr" in toml.get("distill", {})), origin


def _with_dataset(toml: dict[str, Any], dataset: str | None) -> tuple[dict[str, Any], str | None]:
    """A file's tables and the data set: that of the command line, which stands over the file's, or the file's."""
    data = toml.get("data", {})
    if not isinstance(data, dict):
        raise ConfigError("[data] must be a table", 'write dataset = "..." below a line [data]', field="data")
    if dataset is None:
        name = data.get("dataset")
        return toml, name if name is None else DataConfig.fields()["dataset"].read(name, None, "data.dataset")
    return {**toml, "data": {**data, "dataset": dataset}}, dataset


def _layered(base: Recipe, values: dict[str, Any], *, pinned: bool = False) -> Recipe:
    """`values` over a recipe; where they change B and say nothing of the images' rate, it keeps its step an image.

    Where they change the preprocessing the step is left open, unless the user has `pinned` it.
    """
    recipe = from_dict(Recipe, values, base)
    rate = base.distill.image_lr
    if rate is None or "image_lr" in values.get("distill", {}):
        return recipe
    if recipe.data.preprocessing != base.data.preprocessing and not pinned:  # another space, another scale
        return replace(recipe, distill=replace(recipe.distill, image_lr=None))
    if recipe.data.dataset not in KNOWN:
        return recipe
    classes = KNOWN[recipe.data.dataset].num_classes
    before, after = (config.drawn(classes) for config in (base.distill, recipe.distill))
    if before == after:
        return recipe
    return replace(recipe, distill=replace(recipe.distill, image_lr=round(rate * after / before, 12)))


def _moved(base: Recipe, dataset: str) -> Recipe:
    """A preset on another data set: its image size may be another one, and so its network."""
    return replace(base, data=replace(base.data, dataset=dataset), distill=replace(base.distill, image_lr=None))


def complete(recipe: Recipe, shape: tuple[int, int, int], num_classes: int, dataset: Dataset | None = None) -> Recipe:
    """The recipe with nothing left open: the depth of the network by the image size, the image rate by B.

    The step per image is lr / B (METHOD); where no published row has it, it is taken from the data at hand.
    """
    model, distill = recipe.model, recipe.distill.settled(num_classes)
    if model.arch == "auto":
        model = replace(model, arch=deepest(min(shape[1:])))
    if not ARCHITECTURES[model.arch].scales:  # one width, whatever was asked for: one id
        model = replace(model, width=ModelConfig().width)
    if distill.image_lr is None:
        step = image_step(recipe, lambda: variance(dataset, recipe.data.preprocessing))
        distill = replace(distill, image_lr=round(step * distill.drawn(num_classes), 12))
    return replace(recipe, model=model, distill=distill)
