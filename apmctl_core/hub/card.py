"""The card of a repository: what is in it, how it was made, what was measured, and how to load it.

The same artifact and reports give the same bytes. Names and recipes are texts of strangers: they are shown as code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.pools import teacher_paths
from apmctl_core.artifacts.kinds.reports import ReportRow, percent
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.errors import ConfigError
from apmctl_core.hub import snippets
from apmctl_core.storage.tensors import read_header

LICENSE = "unknown"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
_LISTED = 50
_RECORDED = ("apmctl", "torch", "device_name")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TAGS = ["dataset-distillation", "dataset-condensation", "apmctl"]


def card(
    artifact: Artifact, repo: str, rows: Sequence[ReportRow] = (), license: str | None = None, images: int = 0
) -> str:
    """The text of README.md; `rows` are those of the reports on a set, `images` the size of a set.

    Raises ConfigError for a license that is not an identifier.
    """
    license = license or LICENSE
    if not _LICENSE.fullmatch(license):
        raise ConfigError(f"`license` cannot be {license!r}", "give an identifier that the Hub knows, e.g. cc-by-4.0")
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


def _set(artifact: Artifact, repo: str, rows: Sequence[ReportRow], images: int) -> list[str]:
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


def _files_of_set(names: Collection[str]) -> str:
    lines = [
        "- `set.safetensors`: `images` float32 in the space that networks train on, `logits`, `labels`, `stage`",
        "- `preprocessing.safetensors`: the tensors that bring test images into that space",
        "- `data/*.parquet`: the images as pictures (8 bits a pixel, so less exact), labels and logits",
        "- `manifest.json`: the whole recipe, and the sha256 of every file of the artifact",
    ]
    if "baseline.safetensors" in names:
        lines.append("- `baseline.safetensors`: the random real images to compare with (by index), and their logits")
    return "\n".join(lines)


def _pool(artifact: Artifact, repo: str) -> list[str]:
    manifest = artifact.manifest
    model = manifest.recipe.get("model", {})
    mean, std = (manifest.metrics.get(f"test_accuracy_{name}") for name in ("mean", "std"))
    tested = []
    if isinstance(mean, float) and isinstance(std, float):
        tested = [f"Accuracy on the test split, last epoch: {percent(mean, std)}."]
    network = f"{code(model.get('arch', 'network'))}, width {code(model.get('width', '?'))}"
    return [
        f"# {code(manifest.name)}",
        f"A pool of {len(teacher_paths(artifact))} teachers ({network}) "
        f"trained on {code(manifest.data['dataset'])}, for the distillation of data sets with apmctl. "
        f"Id {code(manifest.id)}.",
        *tested,
        "- `teacher-000.safetensors` and on: the weights of each teacher after its last epoch\n"
        "- `preprocessing.safetensors`: the tensors that bring images into the space that they were trained on\n"
        "- `manifest.json`: the whole recipe, and the sha256 of every file",
        "## Use it",
        *snippets.of_pool(repo, manifest.data["dataset"]),
        *_origin(artifact),
    ]


def _origin(artifact: Artifact) -> list[str]:
    environment = artifact.manifest.environment
    where = ", ".join(f"{name} {code(environment[name])}" for name in _RECORDED if name in environment)
    return [
        "## How it was made",
        snippets.again(artifact.kind, artifact.manifest.data["dataset"], artifact.manifest.recipe),
        *([f"Made with {where}."] if where else []),
        "## Citation",
        f"```bibtex\n{snippets.CITATION}\n```",
        f"The terms of the original data ({code(artifact.manifest.data['dataset'])}), such as license and citation, "
        "also apply to what was made from it.",
    ]


# --- the accuracies ---------------------------------------------------------------------------------------------


def measured(rows: Sequence[ReportRow], repo: str) -> str:
    """The table of all rows beside random real images, with the protocol of each."""
    if not rows:
        return f"Not measured yet; `apmctl eval hf:{repo}` measures it beside as many random real images."
    protocols = [
        ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(row.protocol.items())) for row in rows
    ]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(protocols), 1)}
    table = [
        f"| {' | '.join([code(row.arch), code(row.labels), *row.cells(), str(numbers[text])])} |"
        for row, text in zip(rows, protocols, strict=True)
    ]
    return "\n".join(
        [
            "Networks from random weights, trained on nothing but this set; per cent on the test split, mean ± "
            "standard deviation over networks. Random: as many real images with the same kind of labels, under the "
            "same protocol.\n",
            "| network | labels | this set | random real images | difference | protocol |\n|---|---|---|---|---|---|",
            *table,
            "\nProtocols:\n",
            *(f"{number}. {code(text)}" for text, number in numbers.items()),
        ]
    )


def code(value: object) -> str:
    """Any text as inline code: nothing in it is taken for markup, in a table neither."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).replace("`", "'").replace("|", "/")
    return f"`{text.strip() or ' '}`"
