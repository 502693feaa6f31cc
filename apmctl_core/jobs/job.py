"""What a job is: a picklable value for one artifact, which any process can run.

Jobs that read jobs are a graph; `run` walks it.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from apmctl_core.artifacts import Artifact, Manifest, Workspace, open_artifact
from apmctl_core.artifacts import request as requests
from apmctl_core.artifacts.manifest import is_name
from apmctl_core.config import Recipe, digest, subtree, to_dict
from apmctl_core.errors import ArtifactError, ConfigError, Interrupted, StoreError
from apmctl_core.events import Note
from apmctl_core.jobs.session import Session
from apmctl_core.jobs.work import Product, StageTime, Work
from apmctl_core.machine import memory
from apmctl_core.machine.cost import Cost
from apmctl_core.models import NetworkSize, size_of
from apmctl_core.storage.files import require_space, user_store
from apmctl_core.values import Task

# On the disk, a state takes its bytes three times: the newest, the one before, and the one that is being written.
GENERATIONS = 3
OVERHEAD = 1 << 20  # manifest, history, contact sheet, headers


@dataclass(frozen=True, kw_only=True)
class Located:
    """An artifact that exists, as a job reads it: what it is and where it lies."""

    kind: str
    id: str
    ref: str
    path: Path

    @classmethod
    def of(cls, artifact: Artifact) -> Located:
        """The location of an artifact."""
        return cls(kind=artifact.kind, id=artifact.id, ref=artifact.ref, path=artifact.path.absolute())

    def open(self, session: Session) -> Artifact:
        """The artifact, from where it lay or from the session's store. Raises ArtifactError where it is gone."""
        if self.path.is_dir():
            artifact = open_artifact(self.path, self.kind)
            if artifact.id == self.id:
                return artifact
        return session.store.find(self.id, self.kind)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An artifact that a command made or reused; seconds and bytes are those of this command, not of the artifact."""

    artifact: Artifact
    reused: bool
    metrics: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float
    peak_memory_bytes: int
    stages: tuple[StageTime, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One artifact to be made: of a settled recipe, a task, and data with a fingerprint ("" if not at hand yet)."""

    kind: ClassVar[str]
    stage: ClassVar[str]  # what plans call it
    covers: ClassVar[tuple[str, ...]]  # the parts of the recipe that decide the artifact, as dotted paths

    recipe: Recipe
    task: Task
    fingerprint: str
    name: str | None = None  # that the user gave

    def __post_init__(self) -> None:
        if not is_name(self.label):
            raise ConfigError(
                f"`name` cannot be {self.label!r}",
                "give letters, digits, dots, dashes and underscores, at most 100, beginning with a letter or a digit",
            )

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name of the artifact where the user gives none."""

    @property
    def reads(self) -> Mapping[str, Job | Located]:
        """What must exist before the job can be done, each under the name that the artifact's inputs give it."""
        return {}

    @abstractmethod
    def cost(self) -> Cost:
        """What making the artifact asks of the machine."""

    @abstractmethod
    def describe(self) -> str:
        """What making the artifact amounts to, in a few words."""

    @abstractmethod
    def make(self, work: Work) -> Product:
        """Fill the workspace with the artifact's files."""

    @property
    def label(self) -> str:
        return self.default_name if self.name is None else self.name

    @property
    def seed(self) -> int:
        """The seed of the job's random streams."""
        return self.recipe.seed

    @property
    def config(self) -> dict[str, Any]:
        """The part of the recipe that the id covers."""
        return subtree(to_dict(self.recipe), self.covers)

    @property
    def inputs(self) -> dict[str, str]:
        return {"data": self.fingerprint, **{name: source.id for name, source in self.reads.items()}}

    @property
    def id(self) -> str:
        return digest(self.kind, self.config, self.inputs)

    @property
    def size(self) -> NetworkSize:
        """The size of the recipe's network."""
        return size_of(self.recipe.model, self.task.shape, self.task.num_classes)

    def existing(self, session: Session) -> Artifact | None:
        """The artifact of this job, if the session's store has it."""
        return session.store.get(self.kind, self.id)

    def open(self, session: Session) -> Artifact:
        """The artifact of this job. Raises ArtifactError where it was not made yet."""
        artifact = self.existing(session)
        if artifact is None:
            raise ArtifactError(f"{self.kind} {self.label}@{self.id} is not in the store", "run its own job first")
        return artifact

    def execute(self, session: Session) -> Outcome:
        """Reuse the artifact of this job if the store has it, else make it; what it reads must exist."""
        began = time.monotonic()

        def outcome(artifact: Artifact, stages: tuple[StageTime, ...] = ()) -> Outcome:
            return Outcome(
                stages=stages or (StageTime(name=self.stage, seconds=0.0, reused=True, artifact=artifact.ref),),
                artifact=artifact,
                reused=not stages,
                metrics=dict(artifact.manifest.metrics),
                elapsed_s=round(time.monotonic() - began, 3),
                peak_memory_bytes=memory.peak(session.runtime.device),
            )

        existing = self.existing(session)
        if existing is not None:
            session.store.tidy(self.kind, self.id)
            return outcome(self._named(existing, session))
        with session.store.workspace(self.kind, self.label, self.id, wait=session.wait, emit=session.emit) as workspace:
            existing = workspace.existing
            if existing is None:
                if workspace.resumed:
                    session.emit(Note(text=f"resuming unfinished {self.kind} {self.label}@{self.id}"))
                work = Work(session, workspace, self.recipe, self.seed, self.stage)
                with self._recorded(session, workspace):
                    product = self.make(work)
                artifact = workspace.publish(self._manifest(product, work))
                return outcome(artifact, work.stages(artifact.ref))
        return outcome(self._named(existing, session))

    def _named(self, existing: Artifact, session: Session) -> Artifact:
        """An artifact of this job under the name that the user gave; the old one where the store cannot be changed."""
        if self.name in (None, existing.name):
            return existing
        try:
            renamed = session.store.rename(existing, str(self.name), session.emit)
        except StoreError as e:
            session.emit(Note(text=f"keeping the name of {existing.ref}: {e.message}", level="warning"))
            return existing
        session.emit(Note(text=f"renamed {existing.ref} to {renamed.ref}"))
        return renamed

    @contextlib.contextmanager
    def _recorded(self, session: Session, workspace: Workspace) -> Iterator[None]:
        """Keep in the run's folder what it was asked for; an interruption says that it can be resumed by that."""
        if session.request is None:
            yield
            return
        requests.write(workspace.path, msgspec.structs.replace(session.request, summary=self.describe()))
        try:
            yield
        except Interrupted as e:
            if workspace.resumed and session.store.root.absolute() == user_store().absolute():
                e.hint = f"rerun the same command or `resume {self.id}` to resume"
            raise

    def _manifest(self, product: Product, work: Work) -> Manifest:
        """The manifest of what was made, save the list of its files."""
        runtime = product.context.runtime
        seconds = {"seconds": work.seconds(), "peak_memory_bytes": memory.peak(runtime.device)}
        return Manifest(
            kind=self.kind,
            id=self.id,
            name=self.label,
            recipe=to_dict(self.recipe),
            config=self.config,
            inputs=self.inputs,
            data=product.data,
            metrics=product.metrics | seconds,
            environment=runtime.environment()
            | {"segment": product.context.segment.limit, "seed": self.seed, "created": _now()},
        )


def run(session: Session, job: Job) -> Outcome:
    """Make a job's artifact and whatever it reads, each only if the store lacks it.

    Raises, before anything is begun, ConfigError for a memory budget and StoreError for a disk that is too small.
    """
    began = time.monotonic()
    missing = pending(session, job)
    costs = [each.cost() for each in missing]
    for cost in costs:
        session.runtime.require(cost)
    kept = [session.store.kept_bytes(each.kind, each.id) for each in missing]
    if missing:
        require_space(session.store.root, sum(max(0, c.disk_bytes - k) for c, k in zip(costs, kept, strict=True)))
    for source in job.reads.values():
        if isinstance(source, Job) and source not in missing:  # as `execute` does for the job itself
            session.store.tidy(source.kind, source.id)
    stages = [_announced(session, pool) for pool in pools_at_hand(session, job)] if missing else []
    outcome = None
    for each in missing or (job,):
        outcome = each.execute(session)
        stages += outcome.stages
    assert outcome is not None
    return replace(outcome, elapsed_s=round(time.monotonic() - began, 3), stages=tuple(stages))


def pools_at_hand(session: Session, job: Job) -> list[Artifact | Located]:
    """The pools that a job reads and that need not be trained."""
    pools = [source for source in job.reads.values() if source.kind == "pool"]
    found = [source if isinstance(source, Located) else source.existing(session) for source in pools]
    return [each for each in found if each is not None]


def _announced(session: Session, pool: Artifact | Located) -> StageTime:
    session.emit(Note(text=f"reusing pool {pool.ref}"))
    return StageTime(name="teachers", seconds=0.0, reused=True, artifact=pool.ref)


def pending(session: Session, job: Job) -> tuple[Job, ...]:
    """The jobs of a graph that have yet to be done, in an order in which they can be; the job itself comes last."""
    if job.existing(session) is not None:
        return ()
    before = [each for source in job.reads.values() if isinstance(source, Job) for each in pending(session, source)]
    return (*dict.fromkeys(before), job)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
