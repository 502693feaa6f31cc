"""Results whose commands need the network or another process: their JSON, their text and what `--quiet` prints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_row
from rich.console import Console

from apmctl.blocks import as_text
from apmctl.commands.about import Presets
from apmctl.commands.hub import Location, Pulled, Pushed
from apmctl.commands.make import Made, Planned, Released
from apmctl.output import to_json
from apmctl.results import Identity, Judged, Product, Timed, accuracies
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.config import to_dict
from apmctl_core.config.presets import PRESETS
from apmctl_core.hub.pull import Pulled as Fetched
from apmctl_core.hub.push import Pushed as Publication
from apmctl_core.jobs import Outcome, PlanStep
from apmctl_core.jobs.work import StageTime
from apmctl_core.network.references import Reference

from .conftest import Answer
from .samples import ROW, draft

COMMIT = "c" * 40
PUBLICATION = Publication(
    repo="o/n", type="dataset", revision="main", commit=COMMIT, url="https://hub/o/n", uploaded=("a",), sent_bytes=1500
)
LOCATION = {
    "repository": "o/n",
    "type": "dataset",
    "url": "https://hub/o/n",
    "revision": "main",
    "commit": COMMIT,
    "tag": None,
    "pull_request": None,
    "uploaded": ["a"],
    "deleted": [],
    "unchanged": 0,
    "sent_bytes": 1500,
}
ARTIFACT = Artifact(Path("/x"), draft("set"))
IDENTITY = {"kind": "set", "id": ARTIFACT.id, "name": "digits-ipc1", "path": "/x"}
OUTCOME = Outcome(artifact=ARTIFACT, reused=True, metrics={"images": 10}, elapsed_s=1.0, peak_memory_bytes=10**9)


def test_push() -> None:
    result = Pushed.by(PUBLICATION, artifact=Identity.of(ARTIFACT))
    document = {"command": "push", "artifact": IDENTITY, **LOCATION}
    assert list(json.loads(to_json(result)).items()) == list(document.items())
    assert result.brief() == COMMIT
    text = as_text(result.blocks())
    assert text.startswith(f"set {ARTIFACT.ref}\n  url        https://hub/o/n\n")
    assert "sent       1 file, 1.5 KB" in text
    assert "tag" not in text


def test_push_of_what_the_repository_has() -> None:
    again = replace(PUBLICATION, uploaded=(), unchanged=7, deleted=("old", "older"), tag="v1")
    text = as_text([Location.by(again).pairs()])
    for line in ("sent       nothing new", "unchanged  7 files", "deleted    old, older", "tag        v1"):
        assert line in text


def test_distill_with_push() -> None:
    hub = Location.by(PUBLICATION)
    result = Released.by("distill", OUTCOME, results=[Judged(ROW)], hub=hub)
    document = json.loads(to_json(result))
    made = json.loads(to_json(Made.by("distill", OUTCOME))) | {"total_s": document["total_s"]}
    assert list(document.items()) == list({**made, "results": [Judged(ROW).document()], "hub": LOCATION}.items())
    assert result.brief() == ARTIFACT.ref
    text = as_text(result.blocks())
    for part in (f"set {ARTIFACT.ref} (reused)", "84.1 [68.5, 99.7]", "https://hub/o/n"):
        assert part in text


def test_pull() -> None:
    fetched = Fetched(
        artifact=ARTIFACT, reused=False, reference=Reference("o/n"), commit=COMMIT, downloaded_bytes=2_500_000
    )
    result = Pulled.by(fetched)
    assert list(json.loads(to_json(result)).items()) == list(
        {
            "command": "pull",
            "artifact": {**IDENTITY, "reused": False},
            "repository": "o/n",
            "revision": "main",
            "commit": COMMIT,
            "downloaded_bytes": 2_500_000,
        }.items()
    )
    assert result.brief() == ARTIFACT.ref
    assert "downloaded  2.5 MB" in as_text(result.blocks())


def test_the_preview_of_a_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "preview.png").touch()
    product = Product.of(Artifact(tmp_path, draft("set")), reused=False)
    assert f"preview  {tmp_path}/preview.png" in as_text(Made.of(OUTCOME, command="x", artifact=product).blocks())


def test_a_dry_run_of_what_exists() -> None:
    recipe = {"seed": 0, "model": {"width": 8}}
    nothing = {"steps": (), "seconds": 0.0, "memory_bytes": 0, "disk_bytes": 0, "segment": 0}
    result = Planned(command="distill", id="0" * 12, exists=True, settings_from="preset x", recipe=recipe, **nothing)
    assert as_text(result.blocks()).splitlines() == [
        *("dry run of distill; settings: preset x", "  seed         0", "  model.width  8", "id 000000000000"),
        "exists; would be reused",
    ]
    assert result.brief() == "0" * 12


def test_presets(cli: Callable[..., Answer]) -> None:
    document = cli("presets", "--json").document
    assert list(document) == ["command", "presets"]
    names = cli("presets", "--quiet").out.split()
    assert names == list(document["presets"])
    one = cli("presets", "digits-ipc1", "--json").document
    assert one == {"command": "presets", "name": "digits-ipc1", "recipe": document["presets"]["digits-ipc1"]}
    toml = cli("presets", "digits-ipc1").out
    assert toml == cli("presets", "digits-ipc1", "--quiet").out
    assert "[distill]\n" in toml
    header, *rows = cli("presets").out.splitlines()
    assert header.startswith("preset  ")
    assert [row.split()[0] for row in rows] == names


@pytest.fixture
def narrow() -> Console:
    """A terminal of 80 columns."""
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)


def test_the_title_says_what_stood_for_a_test_split() -> None:
    own, fifth = ROW, replace_row(ROW, protocol={"test_split": "a held-out fifth of the images (6 of 30)"})
    assert accuracies([Judged(own)])[0] == "accuracy in per cent on the test split [95% interval]"
    assert (
        accuracies([Judged(fifth)])[0]
        == "accuracy in per cent on a held-out fifth of the images (6 of 30) [95% interval]"
    )
    assert accuracies([Judged(own), Judged(fifth)])[0] == "accuracy in per cent on the test split [95% interval]"


def test_what_only_some_rows_have_is_said_of_these_alone() -> None:
    rows = [ROW, replace_row(ROW, arch="resnet18", protocol={"networks": 2, "epochs": 300})]
    *_, line, rest = accuracies([Judged(row) for row in rows])
    assert line == "protocol: networks 2, epochs 300"
    assert rest == "  selection: last epoch (convnet3 soft)"


def test_tables_fit_a_terminal_of_80_columns_without_being_cut(narrow: Console) -> None:
    shown = Presets(presets={name: to_dict(recipe) for name, recipe in PRESETS.items()})
    lines = as_text(shown.blocks(), narrow).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(PRESETS)
    rows = [
        replace_row(
            ROW,
            labels=kind,
            scores={"gain": 0.1, "hard_label_recovery": 0.25, "coreset_gain": -0.123},
            coresets=dict.fromkeys(("herding", "k-center", "el2n", "confident"), (0.5, 0.7)),
            whole=(0.9, 0.91),
        )
        for kind in ("soft", "hard")
    ]
    _, table, _, baselines, _, scores, *_ = accuracies([Judged(row) for row in rows])
    lines += as_text([table], narrow).splitlines()
    assert lines[-3].split()[-1] == "difference"
    lines += as_text([baselines], narrow).splitlines()
    assert "random" not in {line.split()[2] for line in lines[-10:]}
    assert [line.split()[2] for line in lines[-5:]] == ["herding", "k-center", "el2n", "confident", "whole"]
    assert lines[-1].endswith("90.5 [84.1, 96.9]  -6.4 [-23.3, +10.5]")
    assert as_text([scores], narrow).splitlines()[-1].split() == ["convnet3", "hard", "0.25"]
    steps = [PlanStep("teachers", "train 10 convnet3 of width 128, 100 epochs each", 1e6, 8e5, 1.3e6)]
    nothing = {"memory_bytes": 0, "disk_bytes": 0, "segment": 0, "recipe": {}, "settings_from": "x", "id": "0"}
    plan = Planned(command="distill", exists=False, steps=steps, seconds=1e6, **nothing)
    lines += as_text(list(plan.blocks())[3:4], narrow).splitlines()
    assert lines[-1].endswith("9.2 to 16 days")
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_stages_of_one_name_are_one_in_the_last_lines() -> None:
    stages = [
        StageTime(name="choose", seconds=1.0, artifact="a"),
        StageTime(name="choose", seconds=0.0, reused=True, artifact="b"),
        StageTime(name="choose", seconds=2.0, artifact="c"),
        StageTime(name="teachers", seconds=0.0, reused=True, artifact="d"),
    ]
    (first, _) = Timed(elapsed_s=3.0, peak_memory_bytes=0, total_s=4.0, stages=stages).cost()
    assert first == "4.0 s (choose 3.0 s, teachers reused, other 1.0 s)"
