"""Small sets and pools that could have been made from digits, without the work."""

from __future__ import annotations

from typing import Any

import torch

from apmctl_core.artifacts import Artifact, Manifest, Store
from apmctl_core.artifacts.kinds.pools import save_pool
from apmctl_core.artifacts.kinds.reports import Report, ReportRow, save_report
from apmctl_core.artifacts.kinds.sets import save_set
from apmctl_core.config import ApmConfig, DataConfig, ModelConfig, Recipe, to_dict
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.formats.preview import preview_png
from apmctl_core.models.registry import build
from apmctl_core.values import Baseline, DistilledSet, TeacherPool
from tests.drafts import draft

SHAPE = (1, 8, 8)
CLASSES = tuple(str(digit) for digit in range(10))
MODEL = ModelConfig(arch="convnet1", width=4)
RECIPE = to_dict(Recipe(data=DataConfig(dataset="digits"), model=MODEL, distill=ApmConfig(ipc=1), precision="fp32"))


def draft_of(kind: str, name: str, salt: int = 0, **changes: Any) -> Manifest:
    """A manifest without files; drafts of different salt have different ids."""
    values: dict[str, Any] = {
        "recipe": RECIPE | {"seed": salt},
        "config": {"model": RECIPE["model"], "distill": RECIPE["distill"], "seed": salt},
        "inputs": {"data": "f" * 64},
        "data": {"dataset": "digits", "fingerprint": "f" * 64, "classes": CLASSES, "shape": SHAPE},
        "environment": {"apmctl": "0.1.0", "torch": "2", "created": "2026-01-02T03:04:05+00:00"},
    }
    return draft(kind, name, **(values | changes))


def standard(channels: int = 1) -> Preprocessing:
    return Preprocessing("standard", {"mean": torch.full((channels,), 0.4), "std": torch.full((channels,), 0.25)})


def whitening() -> Preprocessing:
    """A ZCA of SHAPE that is not the identity."""
    rng = torch.Generator().manual_seed(7)
    noise = 0.05 * torch.randn(64, 64, generator=rng)
    return Preprocessing("zca", {"mean": torch.full((64,), 0.4), "matrix": torch.eye(64) * 2 + noise + noise.T})


def values(salt: int = 0, per_class: int = 1, space: Preprocessing | None = None) -> DistilledSet:
    """Images whose pixels use all of 0 to 1."""
    rng = torch.Generator().manual_seed(salt)
    m, k = 10 * per_class, 10
    space = space or standard()
    pixels = torch.rand(m, *SHAPE, generator=rng)
    index = torch.randint(0, 50, (2, m), generator=rng)
    return DistilledSet(
        images=space.forward(pixels),
        logits=torch.randn(m, k, generator=rng),
        labels=torch.arange(k).repeat_interleave(per_class),
        stage=torch.zeros(m, dtype=torch.int64),
        classes=CLASSES,
        preprocessing=space,
        baseline=Baseline(index_DM=index, logits_DMK=torch.randn(2, m, k, generator=rng)),
    )


def put_set(store: Store, name: str = "digits-ipc1", salt: int = 0, **options: Any) -> Artifact:
    space = options.get("space") or standard()
    recipe = options.pop("recipe", RECIPE | {"seed": salt})
    recipe = recipe | {"data": {"dataset": "digits", "preprocessing": space.kind}}
    made = draft_of("set", name, salt, recipe=recipe)
    with store.workspace("set", name, made.id) as work:
        if work.existing is not None:
            return work.existing
        found = values(salt, **options)
        save_set(work.path, found)
        work.write("preview.png", preview_png(found))
        work.log({"round": 1, "loss": 0.5})
        return work.publish(made)


def put_pool(store: Store, name: str = "digits-pool", count: int = 2) -> Artifact:
    made = draft_of("pool", name, metrics={"test_accuracy_mean": 0.9, "test_accuracy_std": 0.01})
    states = [build(MODEL, SHAPE, 10, seed).state_dict() for seed in range(count)]
    pool = TeacherPool(model=MODEL, shape=SHAPE, num_classes=10, states=states, preprocessing=standard())
    with store.workspace("pool", name, made.id) as work:
        save_pool(work.path, pool)
        return work.publish(made)


ROW = ReportRow(
    "convnet3", "soft", (0.8289, 0.8535), (0.68, 0.72), {"networks": 2, "epochs": 300, "selection": "last epoch"}
)


def put_report(store: Store, distilled: Artifact) -> Artifact:
    made = draft_of("report", distilled.name, inputs={"data": "f" * 64, "set": distilled.id})
    with store.workspace("report", made.name, made.id) as work:
        save_report(work.path, Report(distilled.ref, (ROW,)))
        return work.publish(made)


def tree_of(store: Store) -> list[str]:
    """Every file that lies in a store, save locks and what is remembered of the Hub."""
    if not store.root.exists():
        return []
    found = (p for p in store.root.rglob("*") if p.is_file())
    names = (str(p.relative_to(store.root)) for p in found)
    return sorted(n for n in names if not n.startswith(("locks/", "cache/hub/origins/")))
