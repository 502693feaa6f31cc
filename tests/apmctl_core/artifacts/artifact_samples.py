"""Small artifacts of each kind, to put into a store and to damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apmctl_core.artifacts import Artifact, Manifest, Store
from apmctl_core.artifacts.kinds.reports import Report, ReportRow, save_report
from tests.drafts import draft

ROW = ReportRow("convnet3", "soft", (0.5, 0.25), (0.25,), {"epochs": 3})
CLASSES = ("zero", "one", "two")
SHAPE = (1, 4, 4)


def make_draft(kind: str = "report", name: str = "demo", salt: int = 0, **changes: Any) -> Manifest:
    """A manifest's draft; drafts of different salt have different ids."""
    values: dict[str, Any] = {
        "recipe": {"model": {"arch": "convnet1", "width": 4}, "data": {"preprocessing": "standard"}, "seed": salt},
        "config": {"model": {"arch": "convnet1", "width": 4}, "data": {"preprocessing": "standard"}, "seed": salt},
        "inputs": {"data": "f" * 16},
        "data": {"dataset": "digits", "fingerprint": "f" * 16, "classes": list(CLASSES), "shape": list(SHAPE)},
        "metrics": {"loss": 0.5},
        "environment": {"torch": "2"},
    }
    return draft(kind, name, **(values | changes))


def put_report(store: Store, name: str = "demo", salt: int = 0) -> Artifact:
    made = make_draft("report", name, salt)
    with store.workspace("report", name, made.id) as work:
        if work.existing is not None:
            return work.existing
        save_report(work.path, Report("x@0", (ROW,)))
        return work.publish(made)


def set_value(seed: int = 0, baseline: bool = True, per_class: int = 2) -> Any:
    import torch

    from apmctl_core.data.preprocessing import Preprocessing
    from apmctl_core.values import Baseline, DistilledSet

    rng = torch.Generator().manual_seed(seed)
    m, k = len(CLASSES) * per_class, len(CLASSES)
    base = Baseline(
        index_DM=torch.randint(0, 50, (2, m), generator=rng), logits_DMK=torch.randn(2, m, k, generator=rng)
    )
    return DistilledSet(
        images=torch.randn(m, *SHAPE, generator=rng),
        logits=torch.randn(m, k, generator=rng),
        labels=torch.arange(k).repeat_interleave(per_class),
        stage=torch.zeros(m, dtype=torch.int64),
        classes=CLASSES,
        preprocessing=Preprocessing("standard", {"mean": torch.tensor([0.4]), "std": torch.tensor([0.2])}),
        baseline=base if baseline else None,
    )


def put_set(store: Store, name: str = "demo", seed: int = 0) -> Artifact:
    from apmctl_core.artifacts.kinds.sets import save_set

    made = make_draft("set", name, seed)
    with store.workspace("set", name, made.id) as work:
        save_set(work.path, set_value(seed))
        work.log({"round": 1, "loss": 0.5})
        return work.publish(made)


def teacher_shapes(*_: Any) -> dict[str, tuple[int, ...]]:
    return {"conv.weight": (4, 1, 3, 3), "fc.bias": (3,)}


def teacher_state(seed: int) -> Any:
    import torch

    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in teacher_shapes().items()}


def put_pool(store: Store, name: str = "demo", seed: int = 0, count: int = 3) -> Artifact:
    from apmctl_core.artifacts.kinds.pools import save_pool
    from apmctl_core.config import ModelConfig
    from apmctl_core.values import TeacherPool

    made = make_draft("pool", name, seed)
    pool = TeacherPool(
        model=ModelConfig(arch="convnet1", width=4),
        shape=SHAPE,
        num_classes=len(CLASSES),
        states=[teacher_state(seed * 100 + i) for i in range(count)],
        preprocessing=set_value().preprocessing,
    )
    with store.workspace("pool", name, made.id) as work:
        save_pool(work.path, pool)
        return work.publish(made)


def tree(root: Path) -> list[str]:
    """All that lies in a store, except the folder of the locks, which stays."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.name != "locks")
