"""The examples that a card shows: short programs that run as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CITATION = """\
@article{chen2023apm,
  title   = {Dataset Distillation via Adversarial Prediction Matching},
  author  = {Chen, Mingyang and Huang, Bo and Lu, Junda and Li, Bing and Wang, Yi and Cheng, Minhao and Wang, Wei},
  journal = {arXiv preprint arXiv:2312.08912},
  year    = {2023}
}"""

_STANDARD = """(pixels / 255 - space["mean"].view(-1, 1, 1)) / space["std"].view(-1, 1, 1)"""
_ZCA = """((pixels / 255).flatten(1) - space["mean"]).matmul(space["matrix"]).view(pixels.shape)"""
_PLAIN = """\
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file


def fetch(name):
    return load_file(hf_hub_download("%s", name, repo_type="dataset"))


distilled, space = fetch("set.safetensors"), fetch("preprocessing.safetensors")
images, logits, labels = distilled["images"], distilled["logits"], distilled["labels"]


def preprocess(pixels):
    \"\"\"Test images (B, C, H, W), 0 to 255, in the space of `images`.\"\"\"
    return %s"""


def of_set(repo: str, id: str, zca: bool) -> list[str]:
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
        _fence("python", _PLAIN % (repo, _ZCA if zca else _STANDARD)),
        "The logits are raw: train on them with the mean absolute difference, or on the labels with cross-entropy.",
    ]


def of_pool(repo: str, dataset: str) -> list[str]:
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


def again(kind: str, dataset: str, recipe: Mapping[str, Any]) -> str:
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
