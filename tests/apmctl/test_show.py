"""What `show` begins with for each kind of artifact, and what it says that several differ in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apmctl.results import Judged
from apmctl_core.artifacts.artifact import Artifact

from .conftest import Answer
from .samples import DATA, ROW, begin_run, put, put_report, recipe

Cli = Callable[..., Answer]
POOL = {"teachers": 4.0, "test_accuracy_mean": 0.985, "test_accuracy_std": 0.01}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def pool(root: Path) -> Artifact:
    return put(
        root,
        "pool",
        "teachers",
        metrics=POOL,
        environment={"seed": 3},
        recipe=recipe(teachers={"count": 4, "epochs": 30}),
    )


@pytest.fixture
def a_set(root: Path, pool: Artifact) -> Artifact:
    metrics = {"images": 20, "labelling_teachers": 4, "seconds": 134.0, "peak_memory_bytes": 10**9}
    environment = {"created": "2026-01-02T03:04:05+00:00", "device": "cpu", "apmctl": "0.1.0"}
    how = {"distill": {"ipc": 2, "rounds": 240}}
    return put(root, "set", inputs={"pool": pool.id}, metrics=metrics, environment=environment, recipe=recipe(**how))


def on(root: Path, a_set: Artifact, accuracy: float, *, seed: int = 0, **row: Any) -> Artifact:
    """A report on a set."""
    rows = [msgspec.structs.replace(ROW, arch="convnet2", accuracies=(accuracy,), **row).document()]
    made = {"config": {"seed": seed}, "recipe": recipe(seed=seed), "environment": {"created": f"2026-01-0{seed + 3}"}}
    return put_report(root, rows, name=f"{a_set.name}-eval", inputs={"set": a_set.id}, **made)


def test_a_set_begins_with_its_accuracies_and_how_it_was_made(
    cli: Cli, root: Path, a_set: Artifact, pool: Artifact
) -> None:
    report = on(root, a_set, 0.75)
    lines = cli("show", "digits-ipc1").out.splitlines()
    assert lines[:2] == [f"set {a_set.ref}", "accuracy in per cent on the test split [95% interval]"]
    assert lines[3].split() == ["convnet2", "soft", "75.0", "70.0", "[44.6,", "95.4]", "+5.0"]
    text = "\n".join(lines)
    assert f"\nreport {report.ref}, " in text
    pairs = {key: " ".join(rest) for key, *rest in (re.split(r"\s{2,}", line.strip()) for line in lines)}
    assert pairs["data"] == "digits, 2 classes, images of 1 x 8 x 8"
    assert pairs["images"] == "20, 2 per class"
    assert pairs["method"] == "apm, 240 rounds, seed 0"
    assert pairs["network"] == "convnet2, width 32"
    assert pairs["soft labels"] == "mean of 4 teachers"
    assert pairs["teachers"] == f"{pool.ref}, 4 teachers, 98.5 ± 1.0 per cent on the test split"
    assert pairs["time"] == "2:14 min on cpu"
    assert re.fullmatch(r"2026-01-0\d \d\d:04 \(\d+ (d|months|years) ago\) with apmctl 0\.1\.0", pairs["made"])
    assert pairs["path"] == str(a_set.path)
    assert len(lines) <= 20
    assert lines[-1].startswith(f"`apmctl show {a_set.ref} --all` ")


def test_everything_stands_behind_all(cli: Cli, root: Path, a_set: Artifact) -> None:
    on(root, a_set, 0.75)
    text, whole = cli("show", "digits-ipc1").out, cli("show", "digits-ipc1", "--all").out
    assert whole.startswith(text.rpartition("`apmctl show")[0])
    for part in ("distill.student.lr", "sha256", "labelling teachers", "preprocessing.safetensors"):
        assert part in whole
        assert part not in text
    assert "--all" not in whole


def test_a_set_that_was_not_evaluated_names_the_command(cli: Cli, root: Path, a_set: Artifact) -> None:
    line = cli("show", a_set.id).out.splitlines()[1]
    assert line == f"not evaluated yet; `apmctl eval {a_set.ref}` measures it beside random real images"
    document = cli("show", a_set.id, "--json").document
    assert (document["results"], document["reports"]) == ([], [])


def test_a_set_shows_the_usual_accuracies_and_then_the_others(cli: Cli, root: Path, a_set: Artifact) -> None:
    first = on(root, a_set, 0.75)
    others = [on(root, a_set, 0.6, seed=seed, labels="hard") for seed in (1, 2)]
    document = cli("show", "digits-ipc1", "--json").document
    assert [row["accuracy_mean"] for row in document["results"]] == [0.75]
    assert [report["id"] for report in document["reports"]] == [first.id, others[1].id, others[0].id]
    other = msgspec.structs.replace(ROW, arch="convnet2", labels="hard", accuracies=(0.6,))
    assert document["reports"][1]["results"] == [Judged(other).document()]
    assert document["reports"][1]["created"] == "2026-01-05"
    before, after = cli("show", "digits-ipc1").out.split("other reports\n")
    assert "75.0 " in before and "[44.6, 95.4]" in before
    assert re.findall(r"\b[0-9a-f]{12}\b", after)[:2] == [other.id for other in reversed(others)]
    assert after.count(" 60.0 ") == 2


@pytest.mark.parametrize("refs", [["digits-ipc1"], ["digits-ipc1", "other"]])
def test_a_damaged_report_is_said_to_be_left_out(cli: Cli, root: Path, a_set: Artifact, refs: list[str]) -> None:
    put(root, "set", "other", inputs={"salt": "other"}, recipe=recipe())
    report = on(root, a_set, 0.75)
    path = report.file("report.json")
    path.write_bytes(path.read_bytes().replace(b"0.75", b"0.95"))
    answer = cli("show", *refs)
    assert answer.code == 0
    assert f"warning: skipped {report.ref}: {path} is not the file that was written" in answer.err
    assert "95.0" not in answer.out


def test_a_set_without_its_pool_and_the_images_of_another(cli: Cli, root: Path) -> None:
    put(root, "set", inputs={"pool": "0" * 12, "set": "1" * 12}, recipe=recipe())
    text = cli("show", "digits-ipc1").out
    assert f"pool {'0' * 12}, which is not in the store" in text
    assert f"images from  set {'1' * 12}" in text
    assert cli("show", "digits-ipc1", "--json").document["pool"] is None


def test_a_pool_begins_with_its_accuracy(cli: Cli, pool: Artifact, a_set: Artifact) -> None:
    lines = cli("show", "teachers").out.splitlines()
    assert lines[:2] == [f"pool {pool.ref}", "4 teachers, 98.5 ± 1.0 per cent on the test split"]
    assert "  training  4 teachers, 30 epochs each, seed 3" in lines
    assert f"  used by   {a_set.ref}" in lines
    assert [each["id"] for each in cli("show", "teachers", "--json").document["sets"]] == [a_set.id]


def test_a_report_begins_with_its_rows_and_names_its_set(cli: Cli, root: Path, a_set: Artifact) -> None:
    report = on(root, a_set, 0.75)
    lines = cli("show", report.id).out.splitlines()
    assert lines[1] == "accuracy in per cent on the test split [95% interval]"
    assert f"  set   {a_set.ref}" in lines
    assert cli("show", report.id, "--json").document["set"]["id"] == a_set.id
    shutil.rmtree(a_set.path)
    assert f"  set   {a_set.id}, which is not in the store" in cli("show", report.id).out.splitlines()


# --- several


def test_what_sets_differ_in(cli: Cli, root: Path, a_set: Artifact) -> None:
    environment = {"created": "2026-02-03T04:05:06+00:00"}
    settings = recipe(seed=1, distill={"ipc": 2, "rounds": 240, "alpha": 1.0})
    other = put(
        root,
        "set",
        config={"seed": 1},
        metrics={"images": 20, "peak_memory_bytes": 10**9 + 1},
        environment=environment,
        recipe=settings,
    )
    on(root, a_set, 0.75, protocol={"epochs": 3, "images": 20})
    on(root, other, 0.5, protocol={"epochs": 3, "images": 10})
    for seed, accuracy in enumerate((0.125, 0.25), 1):  # the newest of two under one protocol
        on(root, other, accuracy, seed=seed, protocol={"epochs": 4})
    answer = cli("show", a_set.ref, other.ref, "--json")
    document = answer.document
    assert [artifact["id"] for artifact in document["artifacts"]] == [a_set.id, other.id]
    differences = document["differences"]
    assert differences["recipe.seed"] == [0, 1]
    assert differences["recipe.distill.alpha"] == [0.1, 1.0]
    assert differences["inputs.pool"] == [a_set.manifest.inputs["pool"], None]
    assert differences["metrics.seconds"] == [134.0, None]
    assert "recipe.distill.rounds" not in differences
    assert "metrics.images" not in differences
    assert not [field for field in differences if field.startswith("data")]
    assert [(row["labels"], row["protocol"]["epochs"], row["means"]) for row in document["accuracies"]] == [
        ("soft", 3, [0.75, 0.5]),
        ("soft", 4, [None, 0.25]),
    ]
    cells = [re.split(r"\s{2,}", line.strip()) for line in cli("show", a_set.ref, other.ref).out.splitlines()]
    assert cells[0] == [a_set.ref, other.ref]
    assert cells[1] == ["accuracy: soft labels, convnet2, 3 epochs", "75.0", "50.0"]
    (created,) = (row for row in cells if row[0] == "created")
    assert [re.fullmatch(r"2026-0\d-\d\d \d\d:\d\d", date) is None for date in created[1:]] == [False, False]
    assert differences["metrics.peak_memory_bytes"] == [10**9, 10**9 + 1]
    assert not [row for row in cells if row[0] == "metrics.peak_memory_bytes"]  # both are 1.0 GB
    for row in (["seed", "0", "1"], ["distill.alpha", "0.1", "1"], ["metrics.seconds", "2:14 min", "-"]):
        assert row in cells


def test_three_artifacts_have_three_columns(cli: Cli, root: Path, a_set: Artifact, pool: Artifact) -> None:
    report = on(root, a_set, 0.75)
    document = cli("show", a_set.ref, pool.ref, report.ref, "--json").document
    assert document["differences"]["kind"] == ["set", "pool", "report"]
    assert cli("show", a_set.ref, pool.ref, report.ref, "--quiet").out.splitlines() == [
        str(artifact.path) for artifact in (a_set, pool, report)
    ]


def test_an_artifact_does_not_differ_from_itself(cli: Cli, a_set: Artifact) -> None:
    assert cli("show", a_set.ref, a_set.id).out == "nothing differs\n"


def test_data_that_differ_are_named(cli: Cli, root: Path, a_set: Artifact) -> None:
    other = put(root, "set", "other", data=DATA | {"dataset": "toys", "shape": [3, 8, 8]}, recipe=recipe())
    differences = cli("show", a_set.ref, other.ref, "--json").document["differences"]
    assert differences["data.dataset"] == ["digits", "toys"]
    assert differences["data.shape"] == [[1, 8, 8], [3, 8, 8]]


# --- names


def test_a_bare_name_is_the_newest_for_every_command_but_rm(cli: Cli, root: Path) -> None:
    old, new = (
        put(
            root,
            "set",
            config={"seed": seed},
            environment={"created": f"2026-01-0{2 - seed}"},
            recipe=recipe(seed=seed),
        )
        for seed in (1, 0)
    )
    note = f"note: 2 artifacts are named digits-ipc1; using the newest, {new.ref}: seed 0 (others: 1)\n"
    shown = cli("show", "digits-ipc1", "--quiet")
    assert (shown.code, shown.out) == (0, f"{new.path}\n")
    assert cli("show", "digits-ipc1").err == note
    answer = cli("rm", "digits-ipc1")
    assert answer.code == 3
    assert old.path.is_dir()
    renamed = cli("rename", "digits-ipc1", "best")
    assert (renamed.out, renamed.err) == (f"renamed {new.ref} to best@{new.id}\n", note)
    assert cli("show", "digits-ipc1").err == ""


def test_push_takes_the_newest_of_a_name_and_says_so(cli: Cli, root: Path) -> None:
    for seed in (0, 1):
        put_report(
            root, config={"seed": seed}, environment={"created": f"2026-01-0{seed + 1}"}, recipe=recipe(seed=seed)
        )
    answer = cli("push", "digits-ipc1", "owner/name")
    assert answer.code == 3  # a report cannot be pushed
    assert answer.err.startswith("note: 2 artifacts are named digits-ipc1; using the newest, ")
    assert "a report is neither a set nor a pool" in answer.err


def test_rename(cli: Cli, a_set: Artifact, root: Path) -> None:
    path = root / "sets" / "best" / a_set.id
    identity = {"kind": "set", "id": a_set.id, "name": "best", "path": str(path)}
    document = {"command": "rename", "artifact": identity, "renamed": a_set.ref}
    assert cli("rename", "digits-ipc1", "best", "--json").document == document
    assert cli("rename", "best", "better", "--quiet").out == f"better@{a_set.id}\n"
    answer = cli("rename", "better", "a b")
    assert answer.code == 3
    assert "'a b' cannot be the name of an artifact" in answer.err
    assert [entry["name"] for entry in cli("list", "--kind", "set", "--json").document["artifacts"]] == ["better"]


def test_an_unfinished_run_is_not_renamed(cli: Cli, root: Path) -> None:
    begin_run(root, "unfinished")
    answer = cli("rename", "unfinished", "best")
    assert answer.code == 3
    assert "is a set that is not finished" in answer.err


def test_a_reference_shows_what_all_real_images_reach(cli: Cli, root: Path) -> None:
    row = msgspec.structs.replace(ROW, labels="hard", random_accuracies=())
    kept = put_report(root, [row.document()], "reference", name="digits-whole", recipe=recipe(distill={"ipc": 7}))
    lines = cli("show", "digits-whole").out.splitlines()
    assert lines[0] == f"reference {kept.ref}"
    assert lines[2].split() == ["network", "labels", "all", "real"]
    assert lines[3].split() == ["convnet3", "hard", "84.1", "[68.5,", "99.7]"]
    (listed,) = cli("list", "--kind", "reference", "--json").document["artifacts"]
    assert (listed["accuracy"], listed["ipc"], listed["measured"]["labels"]) == (ROW.accuracy_mean, None, "hard")
    assert cli("verify", "digits-whole").code == 0
    assert cli("eval", "digits-whole").code == 3
