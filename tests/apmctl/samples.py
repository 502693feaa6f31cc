"""Small artifacts, made through the store as commands make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apmctl_core.artifacts import manifest as manifests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.store import Store
from apmctl_core.config import DataConfig, Recipe, to_dict

DATA = {"dataset": "digits", "fingerprint": "f" * 16, "classes": ["0", "1"], "shape": [1, 8, 8]}
ROW: dict[str, Any] = {
    "arch": "convnet3",
    "labels": "soft",
    "accuracy_mean": 0.8412,
    "accuracy_std": 0.0123,
    "accuracies": [0.83, 0.85],
    "random_accuracy_mean": 0.7,
    "random_accuracy_std": 0.02,
    "random_accuracies": [0.68, 0.72],
    "protocol": {"networks": 2, "epochs": 300, "selection": "last epoch"},
}


def draft(kind: str, name: str = "digits-ipc1", **changes: Any) -> manifests.Manifest:
    """A manifest that lacks only its files."""
    values: dict[str, Any] = {
        "recipe": to_dict(Recipe(data=DataConfig(dataset="digits"))),
        "config": {"seed": 0},
        "inputs": {},
        "data": DATA,
        "metrics": {"seconds": 12.3},
        "environment": {"created": "2026-01-02T03:04:05+00:00", "device": "cpu"},
    }
    return manifests.draft(kind, name, **(values | changes))


def put_report(root: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Artifact:
    """A report in the store under `root`."""
    manifest = draft("report", **changes)
    with Store(root).workspace("report", manifest.name, manifest.id) as work:
        work.write("report.json", json.dumps({"set": "x", "results": [ROW] if rows is None else rows}).encode())
        return work.publish(manifest)


def begin_run(root: Path, name: str = "digits-ipc1") -> str:
    """An unfinished run in the store under `root`; returns its id."""
    manifest = draft("set", name)
    with Store(root).workspace("set", name, manifest.id) as work:
        work.save_state("images", {}, {"progress": {"done": 3, "total": 240, "unit": "round"}})
    return manifest.id
