"""What help shows: the common options, and with `--help-all` the rest; what to give; and where help is printed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apmctl.cli import app

from .conftest import COMMAND, Answer

CALLBACKS = {command.name: command.callback for command in app.registered_commands}
WITH_RARE = ["teachers", "distill", "relabel", "eval"]
_OURS = re.compile(r"[A-Z]+(/NAME)?(\.\.\.)?|([A-Z]+|[a-z0-9]+)(\|([A-Z]+|[a-z0-9]+))+")  # PLACEHOLDERS and choices
_TYPES = {"TEXT", "INTEGER", "FLOAT", "PATH", "BOOLEAN", "STR", "INT"}


def _declared(name: str) -> dict[str, Any]:
    """What a command declares of each parameter, by its name."""
    callback = CALLBACKS[name]
    assert callback is not None
    return {p.name: typing.get_args(p.annotation) for p in inspect.signature(callback).parameters.values()}


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_value_is_called_by_what_to_give(name: str) -> None:
    for parameter, (kind, info) in _declared(name).items():
        if kind in (bool, bool | None):
            continue
        assert info.metavar, f"{name}: {parameter}"
        assert _OURS.fullmatch(info.metavar), f"{name}: {parameter} {info.metavar}"
        assert not _TYPES & set(info.metavar.split("|")), f"{name}: {parameter}"


@pytest.mark.parametrize("name", [[], *([name] for name in CALLBACKS)])
def test_help_names_no_type_of_python(cli: Callable[..., Answer], name: list[str]) -> None:
    shown = cli(*name, "--help").out
    assert "--help" in shown
    assert re.findall(r"<\w+>|\b(?:TEXT|INTEGER|FLOAT|BOOLEAN)\b", shown) == []


def _flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.mark.parametrize("name", WITH_RARE)
def test_help_shows_the_common_options_and_help_all_the_rest(
    cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    short, whole = cli(name, "--help"), cli(name, "--help-all")
    assert (short.code, whole.code) == (0, 0)
    rare = {f"--{parameter.replace('_', '-')}" for parameter, (_, info) in _declared(name).items() if info.hidden}
    assert {"--segment", "--memory-budget", "--compile", "--no-wait"} <= rare
    assert _flags(short.out) & rare == set()
    assert _flags(whole.out) >= _flags(short.out) | rare
    assert "--help-all" in short.out
    assert {"--store", "--json", "--quiet", "--device"} <= _flags(short.out)


def test_the_help_of_distill_is_short_and_the_options_that_it_leaves_out_work() -> None:
    declared = _declared("distill")
    shown = {name for name, (_, info) in declared.items() if not info.hidden}
    assert {"dataset", "ipc", "rounds", "preset", "config", "teachers", "name", "dry_run", "seed"} <= shown
    assert len(shown) < len(declared) / 1.5


def test_without_a_command_help_is_printed(cli: Callable[..., Answer]) -> None:
    answer = cli()
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == cli("--help").out
    assert cli("--json").code == 2


def test_the_module_prints_the_same_help_as_the_command(tmp_path: Path) -> None:
    ours, module = (
        subprocess.run([*command], capture_output=True, text=True, cwd=tmp_path, check=False)
        for command in ([COMMAND], [sys.executable, "-m", "apmctl"])
    )
    assert (ours.returncode, ours.stderr) == (module.returncode, module.stderr) == (0, "")
    assert ours.stdout == module.stdout
    assert "Usage: apmctl [OPTIONS] COMMAND" in module.stdout
