"""The card of a repository: what is in it, how it was made, what was measured, and how to load it.

The same artifact and reports give the same bytes. Names and recipes are texts of strangers: they are shown as code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.pools import teacher_files
from apmctl_core.artifacts.kinds.reports import ReportRow, percent
from apmctl_core.artifacts.kinds.spaces import FILE as SPACE_FILE
from apmctl_core.errors import ConfigError
from apmctl_core.storage.tensors import read_header

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
_LISTED = 50
_RECORDED = ("apmctl", "torch", "device_name")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TASK = "image-classification"
_TAGS = ["dataset-distillation", "dataset-condensation", "apmctl"]
_FILES = """\
- `set.safetensors`: `images` float32 in the space that networks train on, `logits`, `labels`, `stage`
- `preprocessing.safetensors`: the tensors that bring test images into that space
- `data/*.parquet`: the images as pictures (8 bits a pixel, so less exact), labels and logits
- `manifest.json`: the whole recipe, and the sha256 of every file of the artifact"""
_BASELINE = "\n- `baseline.safetensors`: the random real images to compare with (by index), and their logits"
_CITATION = """\
@article{chen2023apm,
  title   = {Dataset Distillation via Adversarial Prediction Matching},
  author  = {Chen, Mingyang and Huang, Bo and Lu, Junda and Li, Bing and Wang, Yi and Cheng, Minhao and Wang, Wei},
  journal = {arXiv preprint arXiv:2312.08912},
  year    = {2023}
}"""

# How plain code preprocesses, by the tensor that only such a file has.
_SPACES = {
    "std": """\
    return (pixels / 255 - space["mean"].view(-1, 1, 1)) / space["std"].view(-1, 1, 1)""",
    "matrix": """\
    return ((pixels / 255).flatten(1) - space["mean"]).matmul(space["matrix"]).view(pixels.shape)""",
    "triangle": """\
    side = len(space["mean"])
    row, column = torch.triu_indices(side, side)
    matrix = torch.empty(side, side)
    matrix[row, column] = matrix[column, row] = space["triangle"]
    return ((pixels / 255).flatten(1) - space["mean"]).matmul(matrix).view(pixels.shape)""",
}
_PLAIN = """\
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file


def fetch(name):
    return load_file(hf_hub_download("%s", name, repo_type="dataset"))


distilled, space = fetch("set.safetensors"), fetch("preprocessing.safetensors")
images, logits, labels = distilled["images"], distilled["logits"], distilled["labels"]


def preprocess(pixels):
    \"\"\"Test images (B, C, H, W), 0 to 255, in the space of `images`.\"\"\"
%s"""


def card(
    artifact: Artifact, repo: str, rows: Sequence[ReportRow] = (), license: str | None = None, images: int = 0
) -> str:
    """The text of README.md; `rows` are those of the reports on a set, `images` the size of a set.

    Raises ConfigError for a license that is not an identifier.
    """
    license = license or "unknown"
    if not _LICENSE.fullmatch(license):
        raise ConfigError(f"`license` cannot be {license!r}", "give an identifier that the Hub knows, e.g. cc-by-4.0")
    body = _set(artifact, repo, rows, images) if artifact.kind == "set" else _pool(artifact, repo)
    return "\n\n".join([f"---\n{_metadata(artifact, license, images).strip()}\n---", *body]) + "\n"


def _metadata(artifact: Artifact, license: str, images: int) -> str:
    """What the Hub reads."""
    from huggingface_hub import DatasetCardData, ModelCardData

    if artifact.kind != "set":
        pool = ModelCardData(license=license, pipeline_tag=_TASK, tags=[*_TAGS, "safetensors"])
        return str(pool.to_yaml())
    files = [{"split": "train", "path": "data/train-*.parquet"}]
    data = DatasetCardData(
        license=license,
        pretty_name=f"{artifact.name}: {artifact.manifest.data['dataset']}, distilled",
        tags=[*_TAGS, "soft-labels"],
        task_categories=[_TASK],
        size_categories=[next((name for below, name in _SIZES if images < below), "n>1M")],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return str(data.to_yaml())


def _set(artifact: Artifact, repo: str, rows: Sequence[ReportRow], images: int) -> list[str]:
    manifest = artifact.manifest
    shape = " x ".join(map(str, manifest.shape))
    classes = manifest.classes
    more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
    space = next(name for name in _SPACES if name in read_header(artifact.path / SPACE_FILE).tensors)
    return [
        f"# {code(manifest.name)}",
        f"A distilled data set: {images} synthetic images ({shape}) with soft labels, made from "
        f"{code(manifest.data['dataset'])} so that networks trained on them alone do well on real images. "
        f"Made with apmctl, id {code(manifest.id)}.",
        *(["![the first images of each class](preview.png)"] if "preview.png" in manifest.files else []),
        f"Classes, in the order of the labels: {', '.join(code(name) for name in classes[:_LISTED])}{more}.",
        _FILES + (_BASELINE if "baseline.safetensors" in manifest.files else ""),
        "## Accuracy",
        measured(rows, repo),
        "## Use it",
        *_use_set(repo, manifest.id, space),
        *_origin(artifact),
    ]


def _pool(artifact: Artifact, repo: str) -> list[str]:
    manifest = artifact.manifest
    model = manifest.recipe.get("model", {})
    mean, std = (manifest.metrics.get(f"test_accuracy_{name}") for name in ("mean", "std"))
    tested = []
    if isinstance(mean, float) and isinstance(std, float):
        split = f" ({code(manifest.data['split'])})" if "split" in manifest.data else ""
        tested = [f"Accuracy on the test split{split}, last epoch: {percent(mean, std)}."]
    network = f"{code(model.get('arch', 'network'))}, width {code(model.get('width', '?'))}"
    return [
        f"# {code(manifest.name)}",
        f"A pool of {len(teacher_files(artifact))} teachers ({network}) "
        f"trained on {code(manifest.data['dataset'])}, for the distillation of data sets with apmctl. "
        f"Id {code(manifest.id)}.",
        *tested,
        "- `teacher-000.safetensors` and on: the weights of each teacher after its last epoch\n"
        "- `preprocessing.safetensors`: the tensors that bring images into the space that they were trained on\n"
        "- `manifest.json`: the whole recipe, and the sha256 of every file",
        "## Use it",
        *_use_pool(repo, manifest.data["dataset"]),
        *_origin(artifact),
    ]


def _origin(artifact: Artifact) -> list[str]:
    environment = artifact.manifest.environment
    where = ", ".join(f"{name} {code(environment[name])}" for name in _RECORDED if name in environment)
    return [
        "## How it was made",
        _recipe(artifact.kind, artifact.manifest.data["dataset"], artifact.manifest.recipe),
        *([f"Made with {where}."] if where else []),
        "## Citation",
        f"```bibtex\n{_CITATION}\n```",
        f"The terms of the original data ({code(artifact.manifest.data['dataset'])}), such as license and citation, "
        "also apply to what was made from it.",
    ]


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
            "Networks from random weights, trained on nothing but this set; per cent on the test split, mean "
            "[95% interval over networks]. Random: as many real images with the same kind of labels, under the "
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


# --- the examples: short programs that run as they are


def _use_set(repo: str, id: str, space: str) -> list[str]:
    """Three ways to load a set."""
    load = f"""import apmctl_core

data = apmctl_core.load("hf:{repo}")
images, logits, labels = data.images, data.logits, data.labels  # data.preprocess(pixels) for test images"""
    pictures = f'''from datasets import load_dataset

data = load_dataset("{repo}", split="train")  # image, label, logits'''
    return [
        "With apmctl, from the shell (checked against its sha256s, measured, or labelled again):",
        _fence("sh", f"pip install apmctl\napmctl pull {repo}\napmctl eval {id}"),
        "With apmctl, from Python:",
        _fence("python", load),
        "The pictures, with `datasets`:",
        _fence("python", pictures),
        "With `safetensors` and torch alone:",
        _fence("python", _PLAIN % (repo, _SPACES[space])),
        "The logits are raw: train on them with the mean absolute difference, or on the labels with cross-entropy.",
    ]


def _use_pool(repo: str, dataset: str) -> list[str]:
    """Two ways to use a pool."""
    load = f'''from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

weights = load_file(hf_hub_download("{repo}", "teacher-000.safetensors"))'''
    return [
        "With apmctl, from the shell:",
        _fence("sh", f"apmctl pull {repo}\napmctl distill {_shell(dataset)} --teachers hf:{repo}"),
        "The weights, with `safetensors` and torch alone:",
        _fence("python", load),
    ]


def _recipe(kind: str, dataset: str, recipe: Mapping[str, Any]) -> str:
    """The whole recipe, and the command that takes it."""
    import tomli_w

    command = "teachers" if kind == "pool" else "distill"
    try:
        text = tomli_w.dumps(recipe).strip()
    except (TypeError, ValueError, AttributeError):  # a recipe from elsewhere that is no TOML
        return _fence("json", json.dumps(recipe, indent=1, sort_keys=True))
    usage = f"apmctl {command} {_shell(dataset)} --config recipe.toml"
    return f"The whole recipe. Save it as `recipe.toml` and run `{usage}` to use it.\n\n{_fence('toml', text)}"


def _fence(language: str, text: str) -> str:
    """A block of code that no text from elsewhere can end."""
    return "```{}\n{}\n```".format(language, text.replace("```", "'''"))


def _shell(dataset: str) -> str:
    """A data set's name as a word of a command line; a folder is not known by its name alone."""
    return dataset if all(c.isalnum() or c in "._-/:@" for c in dataset) else "DATASET"
