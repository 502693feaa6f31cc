"""Small artifacts, made through the store as commands make them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apmctl_core.artifacts import request as requests
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import KINDS
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.artifacts.manifest import Manifest
from apmctl_core.artifacts.store import Store
from apmctl_core.config import DataConfig, ModelConfig, Recipe, from_dict, to_dict
from tests import drafts

DATA = {"dataset": "digits", "fingerprint": "f" * 16, "classes": ["0", "1"], "shape": [1, 8, 8]}
ROW = ReportRow(
    "convnet3", "soft", (0.8289, 0.8535), (0.68, 0.72), {"networks": 2, "epochs": 300, "selection": "last epoch"}
)


def draft(kind: str, name: str = "digits-ipc1", **changes: Any) -> Manifest:
    """A manifest that lacks only its files."""
    values: dict[str, Any] = {
        "recipe": to_dict(Recipe(data=DataConfig(dataset="digits"))),
        "config": {"seed": 0},
        "inputs": {},
        "data": DATA,
        "metrics": {"seconds": 12.3},
        "environment": {"created": "2026-01-02T03:04:05+00:00", "device": "cpu"},
    }
    return drafts.draft(kind, name, **(values | changes))


def put_report(root: Path, rows: list[dict[str, Any]] | None = None, kind: str = "report", **changes: Any) -> Artifact:
    """A report, or a reference, in the store under `root`."""
    manifest = draft(kind, **changes)
    with Store(root).workspace(kind, manifest.name, manifest.id) as work:
        work.write(
            "report.json", json.dumps({"set": "x", "results": [ROW.document()] if rows is None else rows}).encode()
        )
        return work.publish(manifest)


def put_reports(root: Path, *measured: tuple[Artifact, Sequence[ReportRow]], **changes: Any) -> list[Artifact]:
    """Reports on sets where an evaluation looks for them, all by the recipe of the first set with changes."""
    from apmctl_core.jobs import Session
    from apmctl_core.jobs.commands import report_job
    from apmctl_core.jobs.job import Located
    from apmctl_core.machine.runtime import resolve

    first = report_job(Session(store=Store(root), runtime=resolve("cpu")), str(measured[0][0].path), changes)
    reports = []
    for artifact, rows in measured:
        job = dataclasses.replace(first, distilled=Located.of(artifact))
        made = {"name": job.label, "config": job.config, "inputs": job.inputs, "recipe": to_dict(job.recipe)}
        reports.append(put_report(root, [row.document() for row in rows], **made))
    return reports


def put(root: Path, kind: str, name: str = "digits-ipc1", **changes: Any) -> Artifact:
    """An artifact in the store under `root` of which the manifest alone is sound; its id follows from its name."""
    manifest = draft(kind, name, **(changes | {"inputs": {"salt": name} | changes.get("inputs", {})}))
    with Store(root).workspace(kind, name, manifest.id) as work:
        for file in KINDS[kind].required:
            work.write(file, b"\0" * 100)
        return work.publish(manifest)


def recipe(**changes: Any) -> dict[str, Any]:
    """The plain values of a recipe for the digits, with changes."""
    base = Recipe(data=DataConfig(dataset="digits"), model=ModelConfig(arch="convnet2", width=32))
    return to_dict(from_dict(Recipe, changes, base))


def begin_run(root: Path, name: str = "digits-ipc1", **request: Any) -> str:
    """An unfinished run in the store under `root`, begun as the fields of a request say, if any; returns its id."""
    manifest = draft("set", name, inputs={"salt": name, "unfinished": "yes"})
    with Store(root).workspace("set", name, manifest.id) as work:
        work.save_state("images", {}, {"progress": {"done": 3, "total": 240, "unit": "round"}})
        if request:
            target = {"action": "distill", "target": f"{name}@{manifest.id}"}
            requests.write(work.path, requests.Request(**(target | request)))
    return manifest.id
