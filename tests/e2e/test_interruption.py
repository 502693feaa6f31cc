"""The installed command, stopped by signals and by other processes, as a user sees it."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.command import Shell

RESUMING = "note: resuming unfinished set"
SMALL = ["--width", "8", "--device", "cpu", "--precision", "fp32"]
DISTILL = [
    *("distill", "digits", "--ipc", "1", "--student-epochs", "20", "--checkpoints", "2"),
    *("--teacher-count", "1", "--teacher-epochs", "2", *SMALL),
]
LONG = [*DISTILL, "--rounds", "30000"]
EVAL = ["eval", "digits-ipc1", "--epochs", "3", "--repeats", "12", "--labels", "soft", "--device", "cpu"]


def test_signals_leave_in_time_and_the_run_is_listed_continued_and_removed(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    run = Shell(tmp_path, installed=True).start(*LONG)
    run.wait_for("distill: ")
    answer, seconds = run.stop(signal.SIGINT)
    assert (answer.code, seconds < 5) == (130, True)
    assert [line.split(":")[0] for line in answer.err.splitlines()[-2:]] == ["error", "hint"]
    (first,) = shell.json("list")["runs"]
    assert answer.err.splitlines()[-1] == f"hint: rerun the same command or `{first['resume']}` to resume"
    assert (first["kind"], first["running"], first["progress"]["total"]) == ("set", False, 30000)

    run = shell.start(*first["resume"].split()[1:])
    run.wait_for(RESUMING)
    run.wait_for("distill: ")
    answer, seconds = run.stop(signal.SIGTERM)
    assert (answer.code, seconds < 5) == (143, True)
    assert shell.json("list")["runs"][0]["progress"]["done"] > first["progress"]["done"]

    ref = f"{first['name']}@{first['id']}"
    assert shell.json("rm", ref)["removed"] == [ref]
    assert shell.json("list")["runs"] == []


def test_a_second_process_waits_with_a_message_or_leaves(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    first = shell.start(*LONG, "--json", eager=True)
    first.wait_for("distill: ")
    answer = shell(*LONG, "--json", "--no-wait")
    assert answer.code == 1
    assert f"process {first.pid}" in answer.document["error"]["message"]
    assert answer.err.splitlines()[-1] == "hint: wait for it to end"
    answer = shell("resume", "--no-wait")
    assert (answer.code, f"is locked by process {first.pid}" in answer.err) == (1, True)

    second = shell.start(*LONG)
    second.wait_for(f"note: waiting for process {first.pid}")
    first.stop(signal.SIGKILL)  # its lock is taken over
    second.wait_for(RESUMING)
    assert second.stop(signal.SIGTERM)[0].code == 143


def test_an_evaluation_goes_on_with_the_networks_that_it_has(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.json(*DISTILL, "--rounds", "3")
    whole = shell.json(*EVAL)
    shell.json("rm", whole["artifact"]["id"])
    run = shell.start(*EVAL)
    run.wait_for("evaluate: ")
    answer, seconds = run.stop(signal.SIGTERM)
    assert (answer.code, seconds < 5) == (143, True)
    assert 0 < shell.json("list")["runs"][0]["progress"]["done"] < 24
    assert shell.json(*EVAL)["results"] == whole["results"]
