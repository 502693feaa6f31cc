"""The card of a repository: what is in it, how it was made, what was measured, and how to load it.

The same artifact and reports give the same bytes. Names and recipes are texts of strangers: they are shown as code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.errors import ConfigError
from apmctl_core.hub import snippets
from apmctl_core.storage.header import read_header

Row = Mapping[str, Any]

LICENSE = "unknown"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
_LISTED = 50
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TAGS = ["dataset-distillation", "dataset-condensation", "apmctl"]


def card(artifact: Artifact, repo: str, rows: Sequence[Row] = (), license: str | None = None, images: int = 0) -> str:
    """The text of README.md; `rows` are those of the reports on a set, `images` the size of a set.

    Raises ConfigError for a license that is no identifier of one.
    """
    license = license or LICENSE
    if not _LICENSE.fullmatch(license):
        raise ConfigError(f"--license cannot be {license!r}", "give an identifier as the Hub has them, e.g. cc-by-4.0")
    body = _set(artifact, repo, rows, images) if artifact.kind == "set" else _pool(artifact, repo)
    front = _front_set(artifact, license, images) if artifact.kind == "set" else _front_pool(license)
    return "\n\n".join([f"---\n{front.strip()}\n---", *body]) + "\n"


# --- the metadata that the Hub reads -----------------------------------------------------------------------------


def _front_set(artifact: Artifact, license: str, images: int) -> str:
    from huggingface_hub import DatasetCardData

    files = [{"split": "train", "path": "data/train-*.parquet"}]
    return str(
        DatasetCardData(
            license=license,
            pretty_name=f"{artifact.name}: {artifact.manifest.data['dataset']}, distilled",
            tags=[*_TAGS, "soft-labels"],
            task_categories=["image-classification"],
            size_categories=[next((name for below, name in _SIZES if images < below), "n>1M")],
            configs=[{"config_name": "default", "data_files": files}],
        ).to_yaml()
    )


def _front_pool(license: str) -> str:
    from huggingface_hub import ModelCardData

    return str(
        ModelCardData(license=license, pipeline_tag="image-classification", tags=[*_TAGS, "safetensors"]).to_yaml()
    )


# --- the text ----------------------------------------------------------------------------------------------------


def _set(artifact: Artifact, repo: str, rows: Sequence[Row], images: int) -> list[str]:
    manifest = artifact.manifest
    shape = " x ".join(map(str, manifest.shape))
    classes = manifest.classes
    more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
    picture = ["![the first images of each class](preview.png)"] if "preview.png" in manifest.files else []
    zca = "matrix" in read_header(artifact.path / SPACE_FILE).tensors
    return [
        f"# {code(manifest.name)}",
        f"A distilled data set: {images} synthetic images ({shape}) with soft labels, made from "
        f"{code(manifest.data['dataset'])} so that networks trained on them alone do well on real images. "
        f"Made with apmctl, id {code(manifest.id)}.",
        *picture,
        f"Classes, in the order of the labels: {', '.join(code(name) for name in classes[:_LISTED])}{more}.",
        _files_of_set(manifest.files),
        "## Accuracy",
        measured(rows, repo),
        "## Use it",
        *snippets.of_set(repo, manifest.id, zca),
        *_origin(artifact),
    ]


def _files_of_set(names: Mapping[str, Any]) -> str:
    lines = [
        "- `set.safetensors`: `images` float32 in the space that networks train in, `logits`, `labels`, `stage`",
        "- `preprocessing.safetensors`: what brings test images into that space",
        "- `data/*.parquet`: the same images as pictures (8 bits a pixel, so less exact), labels and logits",
        "- `manifest.json`: the whole recipe, and the sha256 of every file of the artifact",
    ]
    if "baseline.safetensors" in names:
        lines.append("- `baseline.safetensors`: which random real images the set is compared with, and their logits")
    return "\n".join(lines)


def _pool(artifact: Artifact, repo: str) -> list[str]:
    manifest = artifact.manifest
    model = manifest.recipe.get("model", {})
    count = sum(name.startswith("teacher-") for name in manifest.files)
    mean, std = (manifest.metrics.get(f"test_accuracy_{name}") for name in ("mean", "std"))
    found = [f"Accuracy on the test split, last epoch: {_percent(mean, std)}."] if _is_number(mean) else []
    return [
        f"# {code(manifest.name)}",
        f"A pool of {count} teachers ({code(model.get('arch', 'network'))}, width {code(model.get('width', '?'))}) "
        f"trained on {code(manifest.data['dataset'])}, for the distillation of data sets with apmctl. "
        f"Id {code(manifest.id)}.",
        *found,
        "- `teacher-000.safetensors` and on: the weights of each teacher after its last epoch\n"
        "- `preprocessing.safetensors`: what brings images into the space that they were trained in\n"
        "- `manifest.json`: the whole recipe, and the sha256 of every file",
        "## Use it",
        *snippets.of_pool(repo, manifest.data["dataset"]),
        *_origin(artifact),
    ]


def _origin(artifact: Artifact) -> list[str]:
    made = artifact.manifest.environment
    where = ", ".join(f"{name} {code(made[name])}" for name in ("apmctl", "torch", "device_name") if name in made)
    return [
        "## How it was made",
        snippets.again(artifact.kind, artifact.manifest.data["dataset"], artifact.manifest.recipe),
        *([f"Made with {where}."] if where else []),
        "## Citation",
        f"```bibtex\n{snippets.CITATION}\n```",
        f"Whatever holds for the original data ({code(artifact.manifest.data['dataset'])}), its license and its "
        "citation among it, holds for what was made from it, too.",
    ]


# --- what was measured -------------------------------------------------------------------------------------------


def measured(rows: Sequence[Row], repo: str) -> str:
    """The table of all rows beside random real images, with the protocol of each."""
    table, protocols = [], []
    for row in rows:
        try:
            cells = [code(row["arch"]), code(row["labels"]), *_accuracies(row)]
            text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(row["protocol"].items()))
        except (KeyError, TypeError, AttributeError):  # a report that `eval` has not written
            continue
        if text not in protocols:
            protocols.append(text)
        table.append(f"| {' | '.join([*cells, str(protocols.index(text) + 1)])} |")
    if not table:
        return f"Not measured yet; `apmctl eval hf:{repo}` measures it beside as many random real images."
    head = "| network | labels | this set | random real images | difference | protocol |\n|---|---|---|---|---|---|"
    said = [f"{number}. {code(text)}" for number, text in enumerate(protocols, 1)]
    return "\n".join(
        [
            "Networks from random weights, trained on nothing but this set; per cent on the test split, mean ± "
            "standard deviation over networks. Random: as many real images with the same kind of labels, under the "
            "same protocol.\n",
            head,
            *table,
            "\nProtocols:\n",
            *said,
        ]
    )


def _accuracies(row: Row) -> list[str]:
    mean, random = row["accuracy_mean"], row["random_accuracy_mean"]
    if not _is_number(mean):
        raise TypeError("an accuracy must be a number")
    if not _is_number(random):
        return [_percent(mean, row["accuracy_std"]), "-", "-"]
    difference = f"{100 * (mean - random):+.1f}"
    return [_percent(mean, row["accuracy_std"]), _percent(random, row["random_accuracy_std"]), difference]


def _percent(mean: Any, std: Any) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if _is_number(std) else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def code(value: object) -> str:
    """Any text as inline code: nothing in it is taken for markup, in a table neither."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).replace("`", "'").replace("|", "/")
    return f"`{text.strip() or ' '}`"
