"""What is to be made: recipes with nothing left open, and the names and ids that follow from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from apmctl_core import data as datasets
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.manifest import is_name
from apmctl_core.config import ModelConfig, Recipe, digest, from_dict, to_dict
from apmctl_core.errors import ArtifactError, ConfigError, MismatchError
from apmctl_core.jobs.settings import complete
from apmctl_core.jobs.workload import Task, precision_of
from apmctl_core.machine.runtime import Runtime
from apmctl_core.models.registry import build
from apmctl_core.storage.files import DAMAGED_HINT


@dataclass(frozen=True)
class Job:
    """What is to be made: its kind and name, and what its id is taken of."""

    kind: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    recipe: Recipe
    named: bool = False  # by the user

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ConfigError(
                f"--name cannot be {self.name!r}",
                "give letters, digits, dots, dashes and underscores, at most 100, beginning with a letter or a digit",
            )

    @property
    def id(self) -> str:
        return digest(self.kind, self.config, self.inputs)


def settle(recipe: Recipe, shape: tuple[int, int, int], num_classes: int, runtime: Runtime) -> Recipe:
    """A recipe with depth, image rate and precision decided. Raises ConfigError for a network that does not fit."""
    recipe = complete(recipe, shape, num_classes)
    with torch.device("meta"):
        build(recipe.model, shape, num_classes)
    precision = precision_of(recipe, Task(shape, num_classes, 0, 0), runtime.device)
    return from_dict(Recipe, {"precision": precision, "data": {"dataset": data_name(recipe.data.dataset)}}, recipe)


def data_name(dataset: str) -> str:
    """What a recipe calls a data set: known names and Hub names as they are, a folder by its last part."""
    if dataset in datasets.KNOWN or dataset.startswith("hf:"):
        return dataset
    return Path(dataset).resolve().name


def artifact_name(text: str) -> str:
    """`text` as the name of an artifact."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text.removeprefix("hf:")).strip("-._")
    return name[:80] or "data"


def pool_job(recipe: Recipe, fingerprint: str, name: str | None = None) -> Job:
    """What the pool of a settled recipe is called and identified by."""
    whole = to_dict(recipe)
    config = {key: whole[key] for key in ("model", "teachers", "seed", "precision")}
    config["preprocessing"] = recipe.data.preprocessing
    default = f"{artifact_name(recipe.data.dataset)}-{recipe.model.arch}-w{recipe.model.width}"
    return Job("pool", default if name is None else name, config, {"data": fingerprint}, recipe, name is not None)


def set_job(recipe: Recipe, fingerprint: str, pool_id: str, name: str | None = None) -> Job:
    """What the set of a settled recipe is called and identified by."""
    whole = to_dict(recipe)
    config = {key: whole[key] for key in ("model", "distill", "seed", "precision")}
    config["preprocessing"] = recipe.data.preprocessing
    default = f"{artifact_name(recipe.data.dataset)}-ipc{recipe.distill.ipc}"
    inputs = {"data": fingerprint, "pool": pool_id}
    return Job("set", default if name is None else name, config, inputs, recipe, name is not None)


def recipe_of(artifact: Artifact) -> Recipe:
    """The recipe that an artifact was made by. Raises ArtifactError where it is none."""
    try:
        return from_dict(Recipe, artifact.manifest.recipe)
    except ConfigError as e:
        raise ArtifactError(f"{artifact.ref} has no usable recipe: {e.message}", DAMAGED_HINT) from e


def check_pool(pool: Artifact, recipe: Recipe, fingerprint: str) -> None:
    """Raise MismatchError unless a pool's data, preprocessing and network are those of a settled recipe."""
    theirs = recipe_of(pool)
    if pool.manifest.data["fingerprint"] != fingerprint:
        raise MismatchError(
            f"pool {pool.ref} was trained on other data ({pool.manifest.data['dataset']})",
            "train one on this data with `apmctl teachers`",
        )
    if theirs.data.preprocessing != recipe.data.preprocessing:
        raise MismatchError(
            f"pool {pool.ref} was trained on {theirs.data.preprocessing} images, not {recipe.data.preprocessing} ones",
            f"give --preprocessing {theirs.data.preprocessing}",
        )
    if theirs.model != recipe.model:
        raise MismatchError(
            f"pool {pool.ref} has networks {theirs.model.arch} of width {theirs.model.width}, "
            f"not {recipe.model.arch} of width {recipe.model.width}",
            f"give --arch {theirs.model.arch} --width {theirs.model.width}",
        )


def evaluation(recipe: Recipe, changes: dict[str, Any], distilled: Artifact, runtime: Runtime) -> Recipe:
    """A set's own recipe with changes for its evaluation: fields of EvalConfig, `seed`, `precision` and `width`."""
    outer = {k: v for k, v in changes.items() if k in ("seed", "precision")}
    if "width" in changes:
        outer["model"] = {"width": changes["width"]}
    inner = {k: v for k, v in changes.items() if k not in ("seed", "precision", "width")}
    recipe = from_dict(Recipe, {**outer, "evaluate": inner}, recipe)
    manifest = distilled.manifest
    return settle(recipe, manifest.shape, len(manifest.classes), runtime)


def models_of(recipe: Recipe, shape: tuple[int, int, int], num_classes: int) -> list[ModelConfig]:
    """The networks that an evaluation trains, each once. Raises ConfigError for one unknown or too deep."""
    own = recipe.model.arch
    names = dict.fromkeys(own if arch == "auto" else arch for arch in recipe.evaluate.arch or (own,))
    models = [replace(recipe.model, arch=arch) for arch in names]
    with torch.device("meta"):
        for model in models:
            build(model, shape, num_classes)
    return models
