"""doctor: what it looks at, and that an error in one of them is exit 1."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from apmctl import checks
from apmctl.checks import Finding

from .conftest import Answer

Cli = Callable[..., Answer]


def test_a_healthy_machine_is_exit_0_and_nothing_is_made(cli: Cli, tmp_path: Path) -> None:
    answer = cli("doctor", "--json")
    names = {check["name"] for check in answer.document["checks"]}
    assert {"apmctl", "torch", "device", "precision", "torch.compile", "store", "hub login"} <= names
    assert (answer.code, answer.document["ok"]) == (0, True)
    assert not (tmp_path / "store").exists()


def test_an_error_is_exit_1_with_its_hint(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("device", "ok", "cpu"), Finding("store", "error", "full", "make space")]
    monkeypatch.setattr(checks, "everything", lambda _: found)
    answer = cli("doctor")
    assert answer.code == 1
    assert "store: make space" in answer.out
    assert cli("doctor", "--json").document["ok"] is False
    assert cli("doctor", "--quiet").out == "store: error\n"


def test_a_warning_alone_is_exit_0(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "everything", lambda _: [Finding("torch.compile", "warning", "no compiler")])
    assert cli("doctor", "--quiet") == Answer(0, "ok\n", "")


def test_a_store_to_be_made_is_judged_by_the_folder_above_it(tmp_path: Path) -> None:
    found = checks.writable(tmp_path / "a" / "b")
    assert found.status in ("ok", "warning")
    assert "not made yet" in found.detail
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
    found = checks.login()
    assert "a token is there" in found.detail
    assert "hf_secret" not in repr(found)


def test_a_library_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_LIBRARIES", ("no-such-library-at-all",))
    (found,) = checks.libraries()
    assert (found.status, found.hint) == ("error", "pip install no-such-library-at-all")
