"""Recipes with nothing left open, and whether artifacts fit them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from apmctl_core import data as datasets
from apmctl_core.artifacts import Artifact
from apmctl_core.config import Recipe, from_dict
from apmctl_core.data import Dataset
from apmctl_core.data.splits import is_elsewhere
from apmctl_core.errors import ArtifactError, ConfigError, MismatchError
from apmctl_core.evaluation.coresets import CORESETS
from apmctl_core.evaluation.protocols import PROTOCOLS
from apmctl_core.jobs.settings import complete
from apmctl_core.machine.device import choose_precision
from apmctl_core.machine.runtime import Runtime
from apmctl_core.methods import METHODS
from apmctl_core.models import size_of
from apmctl_core.models.registry import GROUPS, Shape, describe
from apmctl_core.storage.files import DAMAGED_HINT


def settle(recipe: Recipe, shape: Shape, num_classes: int, runtime: Runtime, dataset: Dataset | None = None) -> Recipe:
    """A recipe with depth, image rate, precision and the data set's name decided. Raises ConfigError."""
    recipe = complete(recipe, shape, num_classes, dataset)
    METHODS[recipe.distill.method]  # raises for one that is configured but not there
    _networks(recipe, shape, num_classes)  # an evaluation comes last, its mistakes must not
    size = size_of(recipe.model, shape, num_classes)
    precision = choose_precision(recipe.precision, runtime.device, size.multiply_adds)
    data = {"dataset": data_name(recipe.data.dataset)}
    if recipe.data.test_split is not None:
        data["test_split"] = split_name(recipe.data.test_split)
    return from_dict(Recipe, {"precision": precision, "data": data}, recipe)


def data_name(dataset: str) -> str:
    """What a recipe calls a data set: known names and Hub names as they are, a folder by its last part."""
    if dataset in datasets.KNOWN or dataset.startswith("hf:"):
        return dataset
    return Path(dataset).resolve().name


def split_name(test_split: str) -> str:
    """What a recipe calls the test split: fractions and names as they are, a folder elsewhere by its last part."""
    return Path(test_split).expanduser().resolve().name if is_elsewhere(test_split) else test_split


def artifact_name(text: str) -> str:
    """`text` as the name of an artifact."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text.removeprefix("hf:")).strip("-._")
    return name[:80] or "data"


def recipe_of(artifact: Artifact) -> Recipe:
    """The recipe that an artifact was made by. Raises ArtifactError where it has no usable one."""
    try:
        return from_dict(Recipe, artifact.manifest.recipe)
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref} has no usable recipe: {e.message}", e.hint or DAMAGED_HINT) from e


def check_pool(pool: Artifact, recipe: Recipe, fingerprint: str) -> None:
    """Raise MismatchError unless a pool's data, preprocessing and network are those of a settled recipe."""
    other = recipe_of(pool)
    if pool.manifest.data["fingerprint"] != fingerprint:
        raise MismatchError(
            f"pool {pool.ref} was trained on other data ({pool.manifest.data['dataset']})",
            "train one on this data with `teachers`",
        )
    if other.data.preprocessing != recipe.data.preprocessing:
        raise MismatchError(
            f"pool {pool.ref} was trained on {other.data.preprocessing} images, not {recipe.data.preprocessing} ones",
            f"use `data.preprocessing` {other.data.preprocessing}",
        )
    if other.model != recipe.model:
        raise MismatchError(
            f"pool {pool.ref} has networks {describe(other.model)}, not {describe(recipe.model)}",
            f"use `model.arch` {other.model.arch} and `model.width` {other.model.width}",
        )


def evaluation(recipe: Recipe, changes: dict[str, Any], shape: Shape, num_classes: int, runtime: Runtime) -> Recipe:
    """A set's own recipe settled for an evaluation, its networks and protocol named.

    `changes` are fields of EvalConfig, `seed`, `precision` and `width`; they override the protocol, which overrides
    the recipe. Raises ConfigError.
    """
    outer = {k: v for k, v in changes.items() if k in ("seed", "precision")}
    if "width" in changes:
        outer["model"] = {"width": changes["width"]}
    inner = {k: v for k, v in changes.items() if k not in ("seed", "precision", "width")}
    protocol = from_dict(Recipe, {**outer, "evaluate": inner}, recipe).evaluate.protocol
    fixed = {
        name: value for name, value in PROTOCOLS[protocol].settings.items() if not (name == "rates" and "lr" in inner)
    }
    recipe = from_dict(Recipe, {**outer, "evaluate": {**fixed, **inner}}, recipe)
    recipe = settle(recipe, shape, num_classes, runtime)
    networks = _networks(recipe, shape, num_classes)
    labels = tuple(dict.fromkeys(recipe.evaluate.labels))
    named = tuple(CORESETS) if "all" in recipe.evaluate.baseline else recipe.evaluate.baseline
    for name in named:
        CORESETS[name]  # raises for one that is unknown
    e = replace(recipe.evaluate, arch=networks, labels=labels, baseline=tuple(dict.fromkeys(named)))
    if e.whole and "hard" not in labels:
        raise ConfigError("`evaluate.whole` needs hard labels", "add hard to `evaluate.labels`")
    if e.whole and e.rates:
        raise ConfigError(
            "`evaluate.rates` cannot be searched for all real images",
            "leave `evaluate.whole` out, or give `evaluate.lr`",
        )
    # What is off is left out, as where nobody has asked for it.
    epochs = e.whole_epochs if e.whole else None
    e = replace(
        e,
        rates=tuple(dict.fromkeys(e.rates)) if e.rates else None,
        whole=e.whole or None,
        whole_epochs=epochs,
        unaugmented=e.unaugmented or None,
    )
    return replace(recipe, evaluate=e)


def _networks(recipe: Recipe, shape: Shape, num_classes: int) -> tuple[str, ...]:
    """The networks of a recipe's evaluation, each once. Raises ConfigError for what cannot be trained so."""
    e, own = recipe.evaluate, recipe.model.arch
    for labels in e.labels:
        if labels not in PROTOCOLS[e.protocol].procedures:
            raise ConfigError(
                f"`evaluate.labels` cannot be {labels!r} under protocol {e.protocol}",
                f"choose one of: {', '.join(PROTOCOLS[e.protocol].procedures)}",
            )
    named = [name for arch in e.arch or (own,) for name in GROUPS.get(arch, (arch,))]
    networks = tuple(dict.fromkeys(own if arch == "auto" else arch for arch in named))
    for arch in networks:
        size_of(replace(recipe.model, arch=arch), shape, num_classes)  # raises for one unknown or too deep
    return networks
