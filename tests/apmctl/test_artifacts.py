"""list, show, verify and rm on a store with a report and an unfinished run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apmctl import measures, shown
from apmctl.blocks import as_text
from apmctl.commands import contrast, look, removal, show
from apmctl.output import Sink, to_json
from apmctl.results import Judged
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.store import Store

from .conftest import Answer
from .samples import DATA, ROW, begin_run, draft, put_report

Cli = Callable[..., Answer]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def report(root: Path) -> Artifact:
    return put_report(root)


def test_an_empty_store_lists_nothing_and_is_not_made(cli: Cli, root: Path) -> None:
    answer = cli("list", "--json")
    assert (answer.code, answer.document) == (0, {"command": "list", "artifacts": [], "runs": [], "hidden": 0})
    assert "apmctl distill" in cli("list").out
    assert cli("list", "--quiet").out == ""
    assert not root.exists()


def test_list_has_artifacts(cli: Cli, report: Artifact) -> None:
    assert cli("list", "--json").document["artifacts"] == [
        {
            "kind": "report",
            "id": report.id,
            "name": "digits-ipc1",
            "path": str(report.path),
            "dataset": "digits",
            "size_bytes": report.size,
            "accuracy": ROW.accuracy_mean,
            "created": "2026-01-02T03:04:05+00:00",
            "ipc": 10,
            "network": "auto",
            "random_accuracy": ROW.random_accuracy_mean,
            "gain": pytest.approx(0.1412),
            "measured": {"report": report.ref, "network": "convnet3", "labels": "soft", "protocol": ROW.protocol},
        }
    ]
    line = cli("list").out.splitlines()[1]
    assert line.split()[:3] == ["report", report.ref, "digits"]
    assert cli("list", "--quiet").out == f"{report.ref}\n"


def test_list_takes_a_report_without_rows(cli: Cli, root: Path) -> None:
    put_report(root, [])
    (artifact,) = cli("list", "--json").document["artifacts"]
    assert artifact["accuracy"] is None
    assert cli("list").out.splitlines()[1].split()[5] == "-"


def test_list_takes_a_kind(cli: Cli, root: Path, report: Artifact) -> None:
    begin_run(root)
    only_sets = cli("list", "--kind", "set", "--json").document
    assert (only_sets["artifacts"], len(only_sets["runs"])) == ([], 1)
    assert [a["id"] for a in cli("list", "--kind", "report", "--json").document["artifacts"]] == [report.id]
    answer = cli("list", "--kind", "sets")
    assert answer.code == 2
    assert "'sets'" in answer.err


def test_list_skips_damaged_artifacts_with_a_warning(cli: Cli, report: Artifact) -> None:
    (report.path / "manifest.json").write_text("{")
    answer = cli("list", "--json")
    assert (answer.code, answer.document["artifacts"]) == (0, [])
    assert answer.err.startswith("warning: skipped digits-ipc1@")


@pytest.mark.parametrize("ref", ["digits-ipc1", "{id}", "{id:.6}", "digits-ipc1@{id}", "{path}"])
def test_show_takes_every_kind_of_reference(cli: Cli, report: Artifact, ref: str) -> None:
    answer = cli("show", ref.format(id=report.id, path=report.path), "--json")
    assert answer.document["artifact"] == {
        "kind": "report",
        "id": report.id,
        "name": "digits-ipc1",
        "path": str(report.path),
    }


def test_show_has_the_whole_manifest(cli: Cli, report: Artifact) -> None:
    document = cli("show", "digits-ipc1", "--json").document
    fields = ("command", "artifact", "recipe", "inputs", "data", "metrics", "files", "environment", "results", "set")
    assert list(document) == list(fields)
    assert document["recipe"]["distill"]["rounds"] == 2500
    assert document["metrics"] == {"seconds": 12.3}
    assert document["files"]["report.json"]["size"] == report.manifest.files["report.json"].size
    assert document["results"] == [Judged(ROW).document()]
    assert cli("show", "digits-ipc1", "--all", "--json").document == document
    text = cli("show", "digits-ipc1", "--all").out
    for part in (
        "distill.rounds",
        "2500",
        "12 s",
        "report.json",
        "84.1 [68.5, 99.7]",
        "70.0 [44.6, 95.4]",
        "+14.1",
        "last epoch",
    ):
        assert part in text
    assert cli("show", "digits-ipc1", "--quiet").out == f"{report.path}\n"


def test_show_says_what_is_tested_on(cli: Cli, tmp_path: Path) -> None:
    put_report(tmp_path / "store", data=DATA | {"split": "val/ (30 images)"})
    assert cli("show", "digits-ipc1", "--json").document["data"]["split"] == "val/ (30 images)"
    pairs = [line.split("  ") for line in cli("show", "digits-ipc1").out.splitlines()]
    assert ["", "test split", "val/ (30 images)"] in pairs


@pytest.mark.parametrize("verb", ["show", "verify", "rm"])
def test_a_missing_artifact_is_exit_3(cli: Cli, report: Artifact, verb: str) -> None:
    answer = cli(verb, "digits-ipc2")
    assert answer.code == 3
    assert answer.out == ""
    assert "digits-ipc2" in answer.err.splitlines()[0]
    assert report.path.exists()


def test_verify_of_a_sound_artifact(cli: Cli, report: Artifact) -> None:
    identity = {"kind": "report", "id": report.id, "name": "digits-ipc1", "path": str(report.path)}
    document = {"command": "verify", "artifact": identity, "files": 1, "bytes": report.size}
    assert cli("verify", "digits-ipc1", "--json").document == document
    assert cli("verify", "digits-ipc1").out.startswith(f"report {report.ref} is sound: 1 file, ")
    assert cli("verify", "digits-ipc1", "--quiet").out == f"{report.ref}\n"


def test_verify_refuses_a_changed_byte_and_a_stray_file(cli: Cli, report: Artifact) -> None:
    file = report.path / "report.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"8535", b"9535"))
    for verb in ("verify", "show"):
        assert "sha256" in cli(verb, "digits-ipc1", "--json").document["error"]["message"]
    file.write_bytes(content)
    for name in ("a stray", "another"):
        (report.path / name).touch()
    answer = cli("verify", "digits-ipc1")
    assert answer.code == 3
    assert "'a stray' is not in the manifest (and 1 more)" in answer.err
    assert re.search("^warning: .*'another'", answer.err, re.MULTILINE)


@pytest.mark.parametrize("kind", ["pool", "set", "report", "coreset"])
def test_strings_from_an_artifact_cannot_control_the_terminal(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine refuses such artifacts when it reads them; the shell does not rely on that.
    evil = "a\x1b[2J\x9b\u202e\n"
    artifact = Artifact(
        Path("/x"),
        draft(
            kind,
            data=DATA | {"dataset": evil, "shape": [evil]},
            inputs={evil: evil},
            metrics={evil: evil},
            environment={"created": evil, evil: {evil: evil}},
        ),
    )
    row = msgspec.structs.replace(ROW, arch=evil, protocol={evil: evil}, scores={f"{evil}[/bold]": 1.0})
    for module in (measures, shown):
        monkeypatch.setattr(module, "report_rows", lambda _: [row])
    store = Store(root)
    one = shown.shown(artifact, store, Sink())
    results = (one, show.Everything(one), contrast.Contrast.by([artifact, put_report(root)], []))
    removed = removal.Removed(removed=[evil], reports=[], broken=[], freed_bytes=0)
    for result in (*results, look.Listing.by([artifact], []), removed):
        for text in (as_text(result.blocks()), to_json(result)):
            assert all(line.isprintable() for line in text.split("\n"))


def test_a_damaged_manifest_cannot_control_the_terminal_either(cli: Cli, report: Artifact) -> None:
    (report.path / "manifest.json").write_text('{"kind": "\x1b[2J\x9b\u202e"}')
    for arguments in (("list",), ("show", report.ref), ("show", report.ref, "--json")):
        answer = cli(*arguments)
        assert answer.code in (0, 3)
        assert all(line.isprintable() for line in (answer.out + answer.err).split("\n"))


@pytest.mark.parametrize(
    "row",
    [
        {},
        ROW.document() | {"accuracies": ["high"]},
        ROW.document() | {"accuracies": None},
        ROW.document() | {"accuracies": [84.1]},
        ROW.document() | {"accuracies": [-1]},
        ROW.document() | {"accuracies": [float("nan")]},
        ROW.document() | {"random_accuracies": [1e308]},
        ROW.document() | {"accuracy_std": -0.1},
        ROW.document() | {"protocol": 3},
    ],
)
def test_a_report_with_damaged_rows_is_refused_in_one_line(cli: Cli, root: Path, row: dict[str, Any]) -> None:
    put_report(root, [row])
    for verb in ("show", "verify"):
        answer = cli(verb, "digits-ipc1")
        assert answer.code == 3
        assert len(answer.err.splitlines()) == 2
    answer = cli("list", "--json")
    assert (answer.code, answer.document["artifacts"]) == (0, [])
    assert answer.err.startswith("warning: skipped digits-ipc1@")


def test_a_store_that_is_a_file_is_one_clear_error(cli: Cli, root: Path) -> None:
    root.write_text("not a folder")
    answer = cli("list")
    assert answer.code == 1
    assert [line.split(":")[0] for line in answer.err.splitlines()] == ["error", "hint"]


def test_the_option_overrides_the_environment(cli: Cli, tmp_path: Path, report: Artifact) -> None:
    other = cli("list", "--store", str(tmp_path / "elsewhere"), "--json")
    assert other.document["artifacts"] == []
    assert json.loads(cli("list", "--json").out)["artifacts"][0]["id"] == report.id
