"""The installed command, stopped by signals and by other processes, as a user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).parent / "apmctl"
SMALL = ["--width", "8", "--device", "cpu", "--precision", "fp32"]
DISTILL = [
    *("distill", "digits", "--ipc", "1", "--student-epochs", "20", "--checkpoints", "2"),
    *("--teacher-count", "1", "--teacher-epochs", "2", *SMALL),
]
LONG = [*DISTILL, "--rounds", "30000"]
EVAL = ["eval", "digits-ipc1", "--epochs", "3", "--repeats", "12", "--labels", "soft", "--device", "cpu"]


class Command:
    """The installed command at work on a store."""

    def __init__(self, store: Path, *arguments: str) -> None:
        env = os.environ | {"APMCTL_HOME": str(store), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([COMMAND, *arguments], env=env, stdout=pipe, stderr=pipe, text=True)

    def wait_for(self, said: str) -> None:
        """Read what it says on stderr up to a line that begins so."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith(said):
                return
        pytest.fail(f"it ended without saying {said!r}")

    def stop(self, number: int) -> tuple[int, float, str]:
        """Send a signal: exit code, seconds until it had left, the rest of stderr."""
        began = time.monotonic()
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - began, err

    def end(self) -> tuple[int, Any, str]:
        """Its exit code, its JSON document and the rest of stderr."""
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, json.loads(out) if out else None, err


def test_signals_leave_in_time_and_the_run_is_listed_continued_and_removed(tmp_path: Path) -> None:
    run = Command(tmp_path, *LONG)
    run.wait_for("distill: ")
    code, seconds, err = run.stop(signal.SIGINT)
    assert (code, seconds < 5) == (130, True)
    assert [line.split(":")[0] for line in err.splitlines()[-2:]] == ["error", "hint"]
    assert "the same command goes on" in err.splitlines()[-1]
    _, listed, _ = Command(tmp_path, "list", "--json").end()
    (first,) = listed["runs"]
    assert (first["kind"], first["running"], first["progress"]["total"]) == ("set", False, 30000)

    run = Command(tmp_path, *LONG)
    run.wait_for("note: going on with the unfinished set")
    run.wait_for("distill: ")
    code, seconds, _ = run.stop(signal.SIGTERM)
    assert (code, seconds < 5) == (143, True)
    _, listed, _ = Command(tmp_path, "list", "--json").end()
    assert listed["runs"][0]["progress"]["done"] > first["progress"]["done"]

    ref = f"{first['name']}@{first['id']}"
    assert Command(tmp_path, "rm", ref, "--json").end()[:2] == (0, {"command": "rm", "removed": [ref]})
    assert Command(tmp_path, "list", "--json").end()[1]["runs"] == []


def test_a_second_process_waits_with_a_message_or_leaves(tmp_path: Path) -> None:
    first = Command(tmp_path, *LONG, "--json")
    first.wait_for("distill: ")
    code, document, err = Command(tmp_path, *LONG, "--json", "--no-wait").end()
    assert code == 1
    assert f"process {first.process.pid}" in document["error"]["message"]
    assert "--no-wait" in err.splitlines()[-1]

    second = Command(tmp_path, *LONG)
    second.wait_for(f"note: waiting for process {first.process.pid}")
    first.process.kill()  # its lock is taken over
    first.process.communicate()
    second.wait_for("note: going on with the unfinished set")
    assert second.stop(signal.SIGTERM)[0] == 143


@pytest.mark.slow
def test_an_evaluation_goes_on_with_the_networks_that_it_has(tmp_path: Path) -> None:
    assert Command(tmp_path, *DISTILL, "--rounds", "3", "--json").end()[0] == 0
    whole = Command(tmp_path, *EVAL, "--json").end()[1]
    assert Command(tmp_path, "rm", whole["artifact"]["id"]).process.wait(60) == 0
    run = Command(tmp_path, *EVAL)
    run.wait_for("evaluate: ")
    code, seconds, _ = run.stop(signal.SIGTERM)
    assert (code, seconds < 5) == (143, True)
    _, listed, _ = Command(tmp_path, "list", "--json").end()
    assert 0 < listed["runs"][0]["progress"]["done"] < 24
    assert Command(tmp_path, *EVAL, "--json").end()[1]["results"] == whole["results"]
