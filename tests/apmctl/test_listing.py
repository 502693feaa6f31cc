"""What `list` says of each artifact, which accuracy stands for a set, in which order, and in how many columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from apmctl.blocks import as_text
from apmctl.commands.look import Listing
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds import reports
from apmctl_core.artifacts.store import Store

from .conftest import Answer
from .samples import DATA, ROW, begin_run, put, put_report, recipe

Cli = Callable[..., Answer]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def measured(root: Path, a_set: Artifact, *accuracies: float, day: int = 1, **changes: Any) -> Artifact:
    """A report on a set: the first accuracy on soft labels, the second on hard ones."""
    how = {"arch": "convnet2", "protocol": {"name": "apm", "networks": 2, "epochs": 300}}
    how |= changes.pop("row", {})
    rows = [
        msgspec.structs.replace(ROW, labels=labels, accuracies=(accuracy,), random_accuracies=(0.5,), **how).document()
        for labels, accuracy in zip(("soft", "hard"), accuracies, strict=False)
    ]
    made = {"inputs": {"set": a_set.id}, "environment": {"created": f"2026-03-{day:02}T00:00:00+00:00"}}
    made |= {"config": {"seed": day}, "recipe": recipe(seed=day, **changes)}
    return put_report(root, rows, name=f"{a_set.name}-eval", **made)


@pytest.fixture
def a_set(root: Path) -> Artifact:
    return put(root, "set", recipe=recipe(distill={"ipc": 7}))


def listed(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    return list(cli("list", *arguments, "--json").document["artifacts"])


def test_a_set_has_its_ipc_its_network_and_its_accuracy_beside_random(cli: Cli, root: Path, a_set: Artifact) -> None:
    report = measured(root, a_set, 0.625, 0.5)
    (entry,) = listed(cli, "--kind", "set")
    assert (entry["ipc"], entry["network"], entry["dataset"]) == (7, "convnet2", "digits")
    assert (entry["accuracy"], entry["random_accuracy"], entry["gain"]) == (0.625, 0.5, 0.125)
    protocol = {"name": "apm", "networks": 2, "epochs": 300}
    assert entry["measured"] == {"report": report.ref, "network": "convnet2", "labels": "soft", "protocol": protocol}
    header, line = cli("list", "--kind", "set").out.splitlines()
    assert header.split() == (
        [
            "kind",
            "artifact",
            "data",
            "ipc",
            "network",
            "accuracy",
            "labels",
            "random",
            "gain",
            "protocol",
            "size",
            "age",
        ]
    )
    cells = re.split(r"\s{2,}", line)
    assert cells[:5] == ["set", a_set.ref, "digits", "7", "convnet2"]
    assert cells[5:-1] == ["62.5", "soft", "50.0", "+12.5", "apm, 2 networks, 300 epochs", "200 B"]
    assert re.fullmatch(r"\d+ (d|months|years) ago", cells[-1])


def test_a_pool_has_the_accuracy_of_its_teachers(cli: Cli, root: Path) -> None:
    pool = put(root, "pool", metrics={"test_accuracy_mean": 0.985}, recipe=recipe())
    (entry,) = listed(cli)
    assert (entry["accuracy"], entry["ipc"], entry["measured"]) == (0.985, None, None)
    assert re.split(r"\s{2,}", cli("list").out.splitlines()[1])[1:7] == (
        [pool.ref, "digits", "-", "convnet2", "98.5", "teachers"]
    )


@pytest.mark.parametrize(
    ("other", "best"),
    [
        ({"day": 2}, True),  # the newest of two that are alike
        ({"day": 2, "row": {"arch": "convnet4"}}, False),
        ({"day": 2, "evaluate": {"epochs": 3}}, False),
        ({"day": 2, "evaluate": {"arch": ["convnet2"], "labels": ["soft"]}}, True),  # no other protocol
        ({"day": 2, "model": {"width": 8}}, False),
    ],
)
def test_the_accuracy_of_a_set_is_the_usual_one_not_the_latest(
    cli: Cli, root: Path, a_set: Artifact, other: dict[str, Any], best: bool
) -> None:
    measured(root, a_set, 0.6, 0.9)
    measured(root, a_set, 0.7, 0.8, **other)
    (entry,) = listed(cli, "--kind", "set")
    assert entry["accuracy"] == (0.7 if best else 0.6)


def test_an_accuracy_that_was_measured_otherwise_says_so(cli: Cli, root: Path, a_set: Artifact) -> None:
    measured(root, a_set, 0.7, row={"arch": "resnet18"})
    assert re.split(r"\s{2,}", cli("list", "--kind", "set").out.splitlines()[1])[6] == "soft, resnet18"


def test_artifacts_are_ordered_by_kind_and_name_the_newest_first(cli: Cli, root: Path) -> None:
    dates = {"x": ("2026-01-01", "2026-01-03", "2026-01-02"), "w": ("2025-01-01",)}
    for name, days in dates.items():
        for seed, day in enumerate(days):
            put(root, "set", name, config={"seed": seed}, environment={"created": day}, recipe=recipe(seed=seed))
    order = [(entry["name"], entry["created"]) for entry in listed(cli)]
    assert order == [("w", "2025-01-01"), *(("x", f"2026-01-0{day}") for day in (3, 2, 1))]


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", "abcd"), ("age", "bcad"), ("size", "cbad"), ("accuracy", "bcad"), ("gain", "cbad")],
)
def test_artifacts_are_sorted(cli: Cli, root: Path, sort: str, order: str) -> None:
    # name: day it was made, accuracy, accuracy of random, bytes
    values = {"a": (1, 0.1, 0.09, 0), "b": (3, 0.9, 0.5, 50), "c": (2, 0.8, 0.2, 5000), "d": (None, None, None, 0)}
    for seed, (name, (day, accuracy, random, extra)) in enumerate(values.items()):
        environment = {"created": f"2026-01-0{day}"} if day else {}
        row = msgspec.structs.replace(ROW, accuracies=(accuracy or 0,), random_accuracies=(random or 0,)).document()
        rows = [] if accuracy is None else [row | {"scores": {"x" * extra: 1.0}}]
        put_report(root, rows, name=name, config={"seed": seed}, recipe=recipe(seed=seed), environment=environment)
    assert "".join(entry["name"] for entry in listed(cli, "--sort", sort)) == order


def test_what_is_listed_can_be_chosen(cli: Cli, root: Path, a_set: Artifact) -> None:
    other = put(root, "set", "other", data=DATA | {"dataset": "cifar10"}, config={"seed": 1}, recipe=recipe(seed=1))
    report = measured(root, a_set, 0.6)
    assert [entry["id"] for entry in listed(cli, "--dataset", "cifar10")] == [other.id]
    assert {entry["id"] for entry in listed(cli, "--dataset", "digits")} == {a_set.id, report.id}
    assert [entry["accuracy"] for entry in listed(cli, "--dataset", "digits", "--kind", "set")] == [0.6]
    nothing = cli("list", "--dataset", "cifar", "--json").document
    assert (nothing["artifacts"], nothing["runs"], nothing["hidden"]) == ([], [], 3)
    assert cli("list", "--dataset", "cifar").out == "none of 3 artifacts fits; `apmctl list` shows all\n"
    assert cli("list", "--sort", "colour").code == 2


def test_runs_are_listed_with_their_kind_and_their_data_set(cli: Cli, root: Path) -> None:
    digits = begin_run(root, "one", recipe={"data": {"dataset": "digits"}})
    unknown = begin_run(root, "two")
    for options, runs in {(): {digits, unknown}, ("--dataset", "digits"): {digits}, ("--dataset", "x"): set()}.items():
        assert {run["id"] for run in cli("list", *options, "--json").document["runs"]} == runs
    assert cli("list", "--kind", "pool", "--json").document["runs"] == []


@pytest.mark.parametrize(("width", "last"), [(80, r"\d+ (d|months|years) ago"), (60, r"60\.0")])
def test_on_a_narrow_terminal_columns_are_left_out_and_nothing_wraps(root: Path, width: int, last: str) -> None:
    name = "cifar10-convnet3-w32"
    a_set = put(root, "set", name, recipe=recipe(), environment={"created": "2026-01-01"})
    measured(root, a_set, 0.6, row={"arch": "convnet4"})
    text = as_text(Listing.by(Store(root).list(), []).blocks(), Console(width=width, force_terminal=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    for line in lines[1:]:
        assert f"{name}@" in line or f"{name}-eval@" in line
        assert re.search(rf"  {last}$", line)
        assert "60.0" in line


def test_each_report_is_read_once(cli: Cli, root: Path, a_set: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (1, 2, 3):
        measured(root, a_set, 0.6, day=day)
    parse, parsed = reports._parse, []

    def counted(data: bytes, what: str) -> Any:
        parsed.append(what)
        return parse(data, what)

    monkeypatch.setattr(reports, "_parse", counted)
    assert len(listed(cli)) == 4
    assert len(parsed) == 3 == len(set(parsed))
