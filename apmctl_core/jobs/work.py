"""A job at work: its workspace as the stages see it, with a keeper of states and a history of events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from apmctl_core.artifacts import Workspace
from apmctl_core.artifacts.manifest import Data
from apmctl_core.config import Recipe
from apmctl_core.data import Dataset
from apmctl_core.events import Event, Progress
from apmctl_core.jobs.session import Session
from apmctl_core.machine import interrupts
from apmctl_core.machine.cost import Cost
from apmctl_core.seeding import Stream
from apmctl_core.training.checkpoint import Snapshot
from apmctl_core.training.context import Context


@dataclass(frozen=True, kw_only=True)
class Product:
    """What a job leaves beside its files: metrics, what the manifest says of the data, and how it was computed."""

    metrics: dict[str, Any]
    data: Data
    context: Context


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """What a stage took in this process; `artifact` is the reference of what it made or, where `reused`, had made."""

    name: str
    seconds: float
    reused: bool = False
    artifact: str


class WorkspaceKeeper:
    """A keeper whose states lie in a workspace, atomically and two generations deep."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def load(self, name: str) -> Snapshot | None:
        """The newest whole state of that name."""
        kept = self._workspace.load_state(name)
        return None if kept is None else Snapshot(kept[0], kept[1], int(kept[1].get("segment", 0)))

    def save(self, name: str, snapshot: Snapshot) -> None:
        """Keep a state. Raises StoreError where the disk refuses; the states before it are then intact."""
        meta = {**snapshot.meta, "segment": snapshot.segment}
        if (p := snapshot.progress) is not None:
            meta["progress"] = {"done": p.done, "total": p.total, "unit": p.unit}
        self._workspace.save_state(name, snapshot.tensors, meta)

    def clear(self, name: str) -> None:
        """Forget a state."""
        self._workspace.clear_state(name)


class Work:
    """What a job is given to make its artifact with."""

    def __init__(self, session: Session, workspace: Workspace, recipe: Recipe, seed: int, stage: str = "") -> None:
        self.session = session
        self.workspace = workspace
        self._recipe, self._seed = recipe, seed
        # A resumed run has taken the time of the processes before this one, too.
        now = time.monotonic()
        self._began = now - workspace.logged("seconds")
        self._stages = [(stage, now)]

    def context(self, cost: Cost, purpose: str) -> Context:
        """The context of a stage of so much work, its random stream named by its purpose."""
        return Context(
            stream=Stream(self._seed).at(purpose),
            runtime=self.session.runtime.for_cost(cost, self.emit),
            precision=self._recipe.precision,
            keeper=WorkspaceKeeper(self.workspace),
            emit=self.emit,
        )

    def emit(self, event: Event) -> None:
        """Show an event and write it into the history of the run. Raises Interrupted where that was lost before."""
        if isinstance(event, Progress):
            interrupts.check()
            record = {"stage": event.stage, "done": event.done, "total": event.total, **event.metrics}
        else:
            record = {"note": event.text, "level": event.level}
        self.workspace.log({"seconds": self.seconds(), **record})
        self.session.emit(event)

    def begin(self, stage: str) -> None:
        """Begin another stage, to which the time that follows belongs."""
        self._stages.append((stage, time.monotonic()))

    def stages(self, artifact: str) -> tuple[StageTime, ...]:
        """What each stage has taken in this process."""
        ends = [began for _, began in self._stages[1:]] + [time.monotonic()]
        times = zip(self._stages, ends, strict=True)
        return tuple(StageTime(name=n, seconds=round(end - began, 3), artifact=artifact) for (n, began), end in times)

    def seconds(self) -> float:
        """Seconds of work so far, in this process and in those that it resumes."""
        return round(time.monotonic() - self._began, 3)


def described(dataset: Dataset, name: str) -> Data:
    """What a manifest says of the data; `name` is what the recipe calls it."""
    data: Data = {
        "dataset": name,
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
    }
    return {**data, "split": dataset.split} if dataset.split else data
