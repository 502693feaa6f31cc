"""doctor: what it looks at, and that an error in one of them is exit 1."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from apmctl import checks
from apmctl_core.machine.diagnosis import Check

from .conftest import Answer

Cli = Callable[..., Answer]


def test_a_healthy_machine_is_exit_0_and_nothing_is_made(cli: Cli, tmp_path: Path) -> None:
    answer = cli("doctor", "--json")
    names = {check["name"] for check in answer.document["checks"]}
    assert {"apmctl", "torch", "device", "precision", "torch.compile", "store", "hub login"} <= names
    assert (answer.code, answer.document["ok"]) == (0, True)
    assert not (tmp_path / "store").exists()


def test_an_error_is_exit_1_with_its_hint(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [Check("device", "ok", "cpu"), Check("store", "error", "full", "free some space")]
    monkeypatch.setattr(checks, "everything", lambda _: results)
    answer = cli("doctor")
    assert answer.code == 1
    assert "store: free some space" in answer.out
    assert cli("doctor", "--json").document == {
        "command": "doctor",
        "ok": False,
        "checks": [
            {"name": "device", "status": "ok", "detail": "cpu", "hint": ""},
            {"name": "store", "status": "error", "detail": "full", "hint": "free some space"},
        ],
    }
    assert cli("doctor", "--quiet").out == "store: error\n"


def test_a_warning_alone_is_exit_0(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "everything", lambda _: [Check("torch.compile", "warning", "no compiler")])
    assert cli("doctor", "--quiet") == Answer(0, "ok\n", "")


def test_a_store_that_does_not_exist_is_judged_by_the_folder_above_it(tmp_path: Path) -> None:
    check = checks.writable(tmp_path / "a" / "b")
    assert check.status in ("ok", "warning")
    assert "not created yet" in check.detail
    assert not (tmp_path / "a").exists()


def test_a_store_under_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checks.writable(tmp_path / "file" / "store").status == "error"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert checks.writable(tmp_path / "locked").status == "error"


def test_the_token_for_the_hub_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    check = checks.login()
    assert check.detail == "logged in"
    assert "hf_secret" not in repr(check)


def test_a_missing_library_is_an_error() -> None:
    check = checks.library("no-such-library-at-all")
    assert (check.status, check.hint) == ("error", "pip install no-such-library-at-all")


def test_a_torchvision_of_another_torch_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.mismatch() == []

    def broken(name: str) -> None:
        raise RuntimeError(f"operator {name}::nms does not exist")

    monkeypatch.setattr(checks.importlib, "import_module", broken)
    (check,) = checks.mismatch()
    assert (check.status, check.hint) == ("warning", "install torch and torchvision together, of one build")
    assert "was built for another torch: operator torchvision::nms does not exist" in check.detail


def test_the_size_of_the_cache_is_told(tmp_path: Path) -> None:
    assert "in its cache" not in checks.writable(tmp_path).detail
    (tmp_path / "cache" / "data").mkdir(parents=True)
    (tmp_path / "cache" / "data" / "file").write_bytes(b"x" * 3_100_000)
    assert checks.writable(tmp_path).detail.endswith("3.1 MB in its cache (`apmctl gc --cache` empties it)")
