"""Unfinished runs: what list and show say of them, and what resume asks of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from apmctl.blocks import as_text
from apmctl.commands.runs import UnfinishedRun, unfinished
from apmctl.results import Judged
from apmctl_core import jobs
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.request import Request
from apmctl_core.artifacts.store import Store
from apmctl_core.jobs import Outcome, Session
from apmctl_core.storage import files, locks

from .conftest import Answer
from .samples import ROW, begin_run, draft, put

Cli = Callable[..., Answer]
ASKED = {
    "recipe": {"data": {"dataset": "digits"}},
    "summary": "10 images, 240 rounds on 10 of them",
    "line": "apmctl distill digits --ipc 1",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_list_has_unfinished_runs_with_their_progress_and_the_command_that_resumes(cli: Cli, root: Path) -> None:
    begun = begin_run(root, **ASKED)
    (run,) = cli("list", "--json").document["runs"]
    assert list(run) == ["kind", "id", "name", "path", "running", "progress", "target", "resume"]
    assert (run["kind"], run["id"], run["running"]) == ("set", begun, False)
    assert run["progress"] == {"done": 3, "total": 240, "unit": "round"}
    assert (run["target"], run["resume"]) == (f"digits-ipc1@{begun}", f"apmctl resume {begun}")
    lines = cli("list").out.splitlines()
    assert lines[1].split()[2:] == ["3/240", "rounds", "interrupted"]
    assert lines[2] == f"apmctl resume {begun}  # resumes digits-ipc1"
    assert cli("list", "--quiet").out == ""


def test_the_command_that_resumes_names_a_store_that_is_not_the_default(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "an other"
    begun = begin_run(other, **ASKED)
    (run,) = cli("list", "--store", str(other), "--json").document["runs"]
    assert run["resume"] == f"apmctl resume {begun} --store '{other}'"


def test_a_run_of_an_earlier_version_is_resumed_by_its_command(cli: Cli, root: Path) -> None:
    begin_run(root)
    (run,) = cli("list", "--json").document["runs"]
    assert (run["target"], run["resume"]) == (None, None)
    assert "interrupted; rerun the same command to resume" in cli("list").out
    assert cli("show", "digits-ipc1").out.splitlines()[-1].split(None, 2)[2] == "rerun the same command to resume"
    answer = cli("resume", "digits-ipc1")
    assert answer.code == 3
    assert answer.err.splitlines()[-1] == "hint: rerun the command that began it"


def test_a_run_fits_into_80_columns() -> None:
    name, id = "cifar100-convnet3-w128", "0123456789ab"
    progress = {"done": 1234, "total": 2500, "unit": "round"}
    run = UnfinishedRun(
        kind="pool",
        id=id,
        name=name,
        path=Path("/x"),
        running=False,
        progress=progress,
        target=f"{name}@{id}",
        resume=f"apmctl resume {id}",
    )
    lines = as_text(unfinished([run]), Console(width=80, force_terminal=False)).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_a_pool_that_was_begun_for_a_set_says_so(cli: Cli, root: Path) -> None:
    begun = begin_run(root, "teachers", target="digits-ipc1@0123456789ab")
    assert cli("list").out.splitlines()[-1] == f"apmctl resume {begun}  # resumes teachers, then digits-ipc1"
    for ref in ("teachers", "digits-ipc1"):
        assert "part of     digits-ipc1@0123456789ab" in cli("show", ref).out


def test_show_describes_an_unfinished_run(cli: Cli, root: Path) -> None:
    begun = begin_run(root, **ASKED)
    (run,) = Store(root).runs()
    document = cli("show", "digits-ipc1", "--json").document
    assert list(document) == ["command", "run", "owner", "saved", "size_bytes", "summary", "begun_by", "recipe"]
    assert document["run"] == cli("list", "--json").document["runs"][0]
    assert (document["owner"], document["recipe"]) == (None, ASKED["recipe"])
    assert document["size_bytes"] == files.tree_bytes(run.path) > 0
    assert document["saved"][:4].isdigit()
    text = cli("show", begun[:6]).out
    for part in (f"unfinished set {run.ref}", *ASKED.values(), "interrupted", "3/240 rounds", f"apmctl resume {begun}"):
        assert str(part) in text or part == ASKED["recipe"]
    assert cli("show", "digits-ipc1", "--quiet").out == f"{run.path}\n"
    assert f"`apmctl resume {begun}` resumes it" in cli("verify", "digits-ipc1").err
    with locks.hold(root / "locks", f"set-{begun}", "set"):
        assert f"running: process {os.getpid()} (since " in cli("show", "digits-ipc1").out
        assert "apmctl resume" not in cli("list").out


def test_show_of_a_name_that_is_finished_too_means_the_artifact(cli: Cli, root: Path) -> None:
    begin_run(root)
    made = put(root, "set", "digits-ipc1")
    assert cli("show", "digits-ipc1", "--json").document["artifact"]["id"] == made.id


class Engine:
    """Stands for the engine: remembers what it was asked to resume."""

    def __init__(self) -> None:
        self.calls: list[tuple[Session, Request]] = []

    def resume(self, session: Session, request: Request) -> Outcome:
        self.calls.append((session, request))
        report = request.action == "eval"
        artifact = Artifact(Path("/store/x"), draft("report" if report else "set"))
        metrics: dict[str, Any] = {"set": "x@0123456789ab", "results": [ROW]} if report else {"images": 10.0}
        return Outcome(artifact=artifact, reused=False, metrics=metrics, elapsed_s=6.0, peak_memory_bytes=1)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(jobs, "resume", engine.resume)
    return engine


MACHINE = {
    "device": "cpu",
    "compile": False,
    "segment": 7,
    "memory_budget": 3 * 10**9,
    "workers": 5,
    "data_path": "/data",
    "test_path": "/t",
}
TOLERANT = {"skip_broken": True}


def test_resume_asks_for_the_same_on_the_same_machine(cli: Cli, root: Path, engine: Engine) -> None:
    begun = begin_run(root, **ASKED, **MACHINE, **TOLERANT)
    document = cli("resume", "digits-ipc1", "--json").document
    assert (document["command"], document["metrics"]) == ("distill", {"images": 10.0})
    ((session, request),) = engine.calls
    assert request == Store(root).unfinished(begun).request
    assert (session.store.root, session.data_path, session.wait) == (root, Path("/data"), True)
    assert (session.skip_broken, session.test_path) == (True, Path("/t"))
    runtime = session.runtime
    assert runtime.workers == 5
    assert (runtime.device.type, runtime.compile, runtime.limit, runtime.memory_budget) == ("cpu", False, 7, 3 * 10**9)


def test_resume_takes_another_machine(cli: Cli, root: Path, engine: Engine) -> None:
    begin_run(root, **ASKED, **MACHINE)
    changes = [
        "--segment",
        "0",
        "--memory-budget",
        "2GB",
        "--compile",
        "--data",
        "/other",
        "--no-wait",
        "--workers",
        "2",
    ]
    assert cli("resume", "digits-ipc1", *changes).code == 0
    ((session, _),) = engine.calls
    runtime = session.runtime
    assert (runtime.compile, runtime.limit, runtime.memory_budget, runtime.workers) == (True, 0, 2 * 10**9, 2)
    assert (session.data_path, session.wait, session.skip_broken) == (Path("/other"), False, False)


def test_resume_of_an_evaluation_prints_its_table(cli: Cli, root: Path, engine: Engine) -> None:
    begin_run(root, action="eval", set="0123456789ab")
    assert cli("resume", "--json").document["results"] == [Judged(ROW).document()]
    assert cli("resume", "--quiet").out == "0.8412\n"
    assert len(engine.calls) == 2


def test_resume_without_a_name_takes_the_only_run(cli: Cli, root: Path, engine: Engine) -> None:
    answer = cli("resume")
    assert (answer.code, answer.err.splitlines()[0]) == (3, "error: there is no unfinished run in the store")
    one = begin_run(root, "one", **ASKED)
    assert cli("resume").code == 0
    two = begin_run(root, "two", **ASKED)
    answer = cli("resume")
    assert answer.code == 3
    assert answer.err.splitlines()[0] == f"error: 2 runs are unfinished: one@{one}, two@{two}"
    with locks.hold(root / "locks", f"set-{one}", "set"):
        assert cli("resume").code == 0
    assert [request.target for _, request in engine.calls] == [f"one@{one}", f"two@{two}"]


def test_resume_knows_what_is_finished_and_what_is_not_there(cli: Cli, root: Path, engine: Engine) -> None:
    made = put(root, "set", "made")
    answer = cli("resume", "made")
    assert (answer.code, answer.err.splitlines()[0]) == (
        3,
        f"error: {made.ref} is finished: there is nothing to resume",
    )
    answer = cli("resume", "nothing")
    assert (answer.code, answer.err.splitlines()[1]) == (3, "hint: `apmctl list` shows all")
    assert engine.calls == []


def test_resume_refuses_what_another_user_began(
    cli: Cli, root: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_run(root, **ASKED)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    answer = cli("resume")
    assert answer.code == 3
    assert "was begun by another user" in answer.err
    assert engine.calls == []
