"""`apmctl resume`, and what `list` and `show` say of unfinished runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from apmctl import options
from apmctl.blocks import Block, Pairs, Table
from apmctl.commands.make import Evaluated, Made
from apmctl.options import OUTPUT, STORE
from apmctl.output import Result, Sink
from apmctl.results import Document, Identity
from apmctl.signature import Values, argument, takes
from apmctl.text import plural, size
from apmctl_core.errors import ArtifactError

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Run
    from apmctl_core.artifacts.request import Request
    from apmctl_core.artifacts.store import Store

_UNRECORDED = "rerun the same command to resume"


class UnfinishedRun(Identity):
    """A run that another command works on or that was interrupted; `resume` is the command that goes on with it."""

    running: bool
    progress: Mapping[str, Any] | None
    target: str | None
    resume: str | None

    @classmethod
    def by(cls, run: Run, **more: Any) -> Self:
        """A run with what its request says."""
        request = run.request
        resume, target = (command(run), request.target) if request else (None, None)
        return cls.of(run, target=target, resume=resume, **more)

    @property
    def done(self) -> str:
        """The progress as people read it."""
        p, parts = self.progress or {}, {"done", "total", "unit"}
        return f"{p['done']}/{p['total']} {plural(str(p['unit']))}" if parts <= p.keys() else "-"

    @property
    def state(self) -> str:
        """Whether a process works on it, and what to do where none does and no command is known."""
        return "running" if self.running else "interrupted" if self.resume else f"interrupted; {_UNRECORDED}"

    def row(self) -> tuple[str, ...]:
        """The cells of the table of runs."""
        return self.kind, self.ref, self.done, self.state


def command(run: Run) -> str:
    """The command that resumes a run, to be copied: it names the store if that is not the user's own."""
    from apmctl_core.storage.files import user_store

    root = run.path.absolute().parents[2]
    store = [] if root == user_store().absolute() else ["--store", str(root)]
    return shlex.join(["apmctl", "resume", run.id, *store])


def unfinished(runs: Sequence[UnfinishedRun]) -> Iterator[Block]:
    """What `list` shows of unfinished runs: their table, and the command for each that is interrupted."""
    yield Table(("unfinished", "artifact", "progress", "state"), [run.row() for run in runs], wrap=("state",))
    for run in runs:
        if run.resume and not run.running:
            goal = "" if run.target == run.ref else f", then {str(run.target).partition('@')[0]}"
            yield f"{run.resume}  # resumes {run.name}{goal}"


class ShownRun(Document):
    """An unfinished run: how far it is, who works on it, and how it was begun."""

    command: str = "show"
    run: UnfinishedRun
    owner: str | None
    saved: str | None
    size_bytes: int
    summary: str | None
    begun_by: str | None
    recipe: Mapping[str, Any]

    @classmethod
    def by(cls, run: Run) -> Self:
        """All that there is to show of a run."""
        from apmctl_core.storage.files import tree_bytes

        request = run.request
        return cls(
            run=UnfinishedRun.by(run),
            owner=run.owner,
            saved=None if run.saved is None else datetime.fromtimestamp(run.saved, UTC).isoformat(timespec="seconds"),
            size_bytes=tree_bytes(run.path),
            summary=request.summary if request else None,
            begun_by=(request.line or None) if request else None,
            recipe=request.recipe if request else {},
        )

    def brief(self) -> str:
        return str(self.run.path)

    def blocks(self) -> Iterator[Block]:
        run = self.run
        yield f"unfinished {run.headline}"
        state = f"running: {self.owner}" if self.owner else "interrupted"
        saved = datetime.fromisoformat(self.saved).astimezone().isoformat(" ", "minutes")[:16] if self.saved else "-"
        goal = run.target if run.target != run.ref else None
        pairs: list[tuple[str, object]] = [
            ("what", self.summary),
            ("part of", goal),
            ("state", state),
            ("progress", run.done),
            ("last saved", saved),
            ("path", run.path),
            ("size", size(self.size_bytes)),
            ("data", self.recipe.get("data", {}).get("dataset")),
            ("begun by", self.begun_by),
            ("to resume", run.resume or _UNRECORDED),
        ]
        yield Pairs([(name, value) for name, value in pairs if value is not None])


_RUN = argument("ref", str | None, "REF", "Name, name@id or prefix of the id [default: the only one].", None)


@takes(_RUN, STORE, options.COMPUTE, OUTPUT)
def resume(ref: str | None, store: Store, machine: dict[str, Any], out: Sink) -> None:
    """Resume an unfinished run with the settings that it was begun with, without its command.

    Options are of this machine; what is not given stays as it was. Nothing is pushed.
    """
    from apmctl_core.artifacts.request import read_own

    run = store.unfinished(ref) if ref else only(store.runs())
    if run.request is None:
        raise ArtifactError(f"{run.ref} does not say how it was begun", "rerun the command that began it")
    request = read_own(run.path)
    with options.open_session(_as_begun(machine, request, store.root), out) as session:
        from apmctl_core import jobs

        outcome = jobs.resume(session, request)
    result: Result
    result = Evaluated.by(outcome) if request.action == "eval" else Made.by(request.action, outcome)
    out.result(result)


def only(runs: Sequence[Run]) -> Run:
    """The one run that can be meant where none is named: those that no process works on come first."""
    candidates = [run for run in runs if not run.running] or runs
    if not candidates:
        raise ArtifactError("there is no unfinished run in the store", "`list` shows what is in it")
    if len(candidates) > 1:
        refs = ", ".join(run.ref for run in candidates)
        raise ArtifactError(f"{len(candidates)} runs are unfinished: {refs}", "name the one to resume")
    return candidates[0]


def _as_begun(machine: Values, request: Request, store: Path) -> dict[str, Any]:
    """The options of a session: those given, or else those of the request."""
    segment, budget = request.segment, request.memory_budget
    begun = {
        "device": request.device,
        "compile": request.compile,
        "segment": "auto" if segment is None else str(segment),
        "memory_budget": None if budget is None else str(budget),
        "workers": request.workers or None,
        "data": None if request.data_path is None else Path(request.data_path),
        "test_split": None if request.test_path is None else Path(request.test_path),
        "skip_broken": request.skip_broken,
    }
    given = {name: value for name, value in machine.items() if value not in (None, "auto")}
    return {**begun, **given, "store": store}
