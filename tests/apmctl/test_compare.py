"""compare: several sets by one recipe, in every form, and what is refused before anything is trained.

The reports lie where an evaluation looks for them: the sets have no images, and the data has another fingerprint, so
that any training would fail.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from apmctl.blocks import as_text
from apmctl.commands.compare import Compared, _letter
from apmctl.results import Judged
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.jobs import Comparison, Outcome
from apmctl_core.jobs.commands import report_job

from .conftest import Answer
from .samples import DATA, ROW, put, put_reports, recipe

Cli = Callable[..., Answer]
RANDOM = (0.40, 0.50, 0.45)


def row(*accuracies: float, **changes: Any) -> ReportRow:
    protocol = ROW.protocol | {"images": 20, "random_draws": 5}
    return replace(
        ROW,
        **{"arch": "convnet2", "accuracies": accuracies, "random_accuracies": RANDOM, "protocol": protocol} | changes,
    )


A = [row(0.50, 0.56, 0.56), row(0.30, 0.32, 0.31, labels="hard")]
B = [replace(each, protocol=each.protocol | {"images": 40}) for each in A]
B = [replace(B[0], accuracies=(0.62, 0.64, 0.66)), replace(B[1], accuracies=(0.30, 0.33, 0.30))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def put_set(root: Path, name: str, *, data: dict[str, Any] | None = None, **settings: Any) -> Artifact:
    settings = recipe(**({"precision": "fp32"} | settings))
    inputs = {"pool": f"{settings['seed']:012x}"}
    return put(root, "set", name, config={"seed": settings["seed"]}, recipe=settings, data=data or DATA, inputs=inputs)


OTHERWISE = {"model": {"width": 16}, "distill": {"ipc": 20}, "evaluate": {"epochs": 300, "interval": 0.01}}


@pytest.fixture
def two(root: Path) -> list[Artifact]:
    """Two sets, with reports by the recipe of the first."""
    sets = [put_set(root, "one"), put_set(root, "two", seed=1, **OTHERWISE)]
    put_reports(root, (sets[0], A), (sets[1], B))
    return sets


def test_all_that_is_known_as_json(cli: Cli, two: list[Artifact]) -> None:
    document = cli("compare", "one", "two", "--json").document
    fields = ["command", "sets", "reports", "results", "differences", "elapsed_s", "peak_memory_bytes", "stages"]
    assert list(document) == [*fields, "total_s"]
    assert document["command"] == "compare"
    assert [entry["id"] for entry in document["sets"]] == [each.id for each in two]
    assert [(entry["set"], entry["reused"]) for entry in document["reports"]] == [(each.ref, True) for each in two]
    assert [(entry["arch"], entry["labels"]) for entry in document["results"]] == [
        ("convnet2", "soft"),
        ("convnet2", "hard"),
    ]
    first, second = document["results"][0]["sets"]
    assert [first["set"], second["set"]] == [each.ref for each in two]
    evaluated = Judged(A[0]).document()  # as in the document of eval
    assert {name: first[name] for name in evaluated} == evaluated
    # 4.30265 of the standard errors 0.02 and 0.011547.
    assert (first["accuracy_low"], first["accuracy_high"]) == pytest.approx((0.453947, 0.626053), abs=1e-5)
    assert (second["accuracy_low"], second["accuracy_high"]) == pytest.approx((0.590317, 0.689683), abs=1e-5)
    assert first["to_first"] is None
    assert second["to_first"] == {
        "difference": pytest.approx(0.1),
        "low": pytest.approx(0.050317, abs=1e-5),
        "high": pytest.approx(0.149683, abs=1e-5),
        "paired": True,
        "verdict": "above",
    }
    assert [each["to_first"]["verdict"] for each in (entry["sets"][1] for entry in document["results"])] == [
        "above",
        "noise",
    ]
    assert document["differences"] == {
        "recipe.seed": [0, 1],
        "recipe.model.width": [32, 16],
        "recipe.distill.ipc": [10, 20],
        "inputs.salt": ["one", "two"],
        "inputs.pool": ["000000000000", "000000000001"],
    }


def test_a_line_a_set_for_people(cli: Cli, two: list[Artifact]) -> None:
    lines = cli("compare", "one", "two").out.splitlines()
    assert lines[:3] == [
        f"  A  {two[0].ref}",
        f"  B  {two[1].ref}",
        "accuracy in per cent on the test split [95% interval]; difference: to set A",
    ]
    assert [" ".join(line.split()) for line in lines[3:8]] == [
        "network labels set accuracy difference verdict",
        "convnet2 soft A 54.0 [45.4, 62.6] - -",
        "convnet2 soft B 64.0 [59.0, 69.0] +10.0 [+5.0, +15.0] above",
        "convnet2 hard A 31.0 [28.5, 33.5] - -",
        "convnet2 hard B 31.0 [26.7, 35.3] +0.0 [-2.5, +2.5] noise",
    ]
    assert lines[8] == "intervals of the difference, B: paired by seed"
    baseline = lines.index("real images under the same labels and protocol; difference: of the set to them")
    # Random: 4.30265 of the standard error 0.05 / 3^0.5. Gain: squared errors 0.0004 and 0.000833, so 3.56 degrees of
    # freedom, rounded down to 3, and 3.18245 of the error 0.0351.
    assert " ".join(lines[baseline + 2].split()) == "convnet2 soft A random 45.0 [32.6, 57.4] +9.0 [-2.2, +20.2]"
    assert len([line for line in lines if "  random  " in line]) == 4
    assert "protocol: networks 2, epochs 300, selection last epoch, random draws 5" in lines  # images differ
    place = lines.index("the sets differ in")
    assert [line.split() for line in lines[place + 1 : place + 7]] == [
        ["A", "B"],
        ["seed", "0", "1"],
        ["distill.ipc", "10", "20"],
        ["model.width", "32", "16"],
        ["inputs.pool", "000000000000", "000000000001"],
        ["inputs.salt", "one", "two"],
    ]


def test_quietly_the_means_of_each_row(cli: Cli, two: list[Artifact]) -> None:
    assert cli("compare", two[1].ref, two[0].ref, "--quiet").code == 3  # by the recipe of the other: not measured
    assert cli("compare", two[0].ref, two[1].ref, "--quiet") == Answer(0, "0.5400 0.6400\n0.3100 0.3100\n", "")


def test_the_settings_of_the_first_set_hold_for_all_and_that_is_said(cli: Cli, two: list[Artifact]) -> None:
    answer = cli("compare", "one", "two")
    notes = [line for line in answer.err.splitlines() if line.startswith("note: ")]
    assert notes[0] == (
        f"note: evaluating all sets with the settings of {two[0].ref}: evaluate.epochs 1000 (others: 300), "
        "model.width 32 (others: 16), seed 0 (others: 1), evaluate.interval - (others: 0.01)"
    )
    assert [note.partition(" on ")[2] for note in notes[1:]] == [f"{two[0].ref} (1 of 2)", f"{two[1].ref} (2 of 2)"]
    assert all(note.startswith("note: reusing report ") for note in notes[1:])


def test_what_is_given_is_no_disagreement(cli: Cli, root: Path) -> None:
    sets = [put_set(root, "one"), put_set(root, "two", seed=1, model={"arch": "convnet1"})]
    given = {"arch": ["convnet1", "auto"], "epochs": 3, "seed": 5}
    rows = [row(0.5, 0.6), replace(row(0.5, 0.6), arch="convnet1")]
    put_reports(root, (sets[0], rows), (sets[1], rows), **given)
    flags = ("--arch", "convnet1", "--arch", "auto", "--epochs", "3", "--seed", "5")
    answer = cli("compare", "one", "two", *flags)
    assert answer.code == 0
    # Only `auto` means another network in the other set.
    assert "note: evaluating all sets with the settings of one@" in answer.err
    assert ": evaluate.arch convnet1, convnet2 (others: convnet1)\n" in answer.err
    assert cli("compare", "one", "two", *flags[:2], *flags[4:]).code == 3  # convnet1 alone was not measured
    assert "settings of" not in cli("compare", "one", "two", *flags[:2], *flags[4:]).err


def test_all_real_images_are_trained_on_as_the_first_set_says(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [put_set(root, "one"), put_set(root, "two", seed=1, teachers={"epochs": 7})]
    asked: list[tuple[Any, ...]] = []

    def evaluate_set(*arguments: Any) -> Outcome:
        asked.append(arguments)
        return Outcome(
            artifact=sets[0], reused=True, metrics={"set": "", "results": A}, elapsed_s=1, peak_memory_bytes=1
        )

    monkeypatch.setattr("apmctl_core.jobs.compare.evaluate_set", evaluate_set)
    assert cli("compare", "one", "two", "--whole").code == 0
    jobs = [report_job(*arguments) for arguments in asked]
    assert [job.distilled.id for job in jobs] == [each.id for each in sets]
    (one,), (other,) = (job.wholes for job in jobs)
    assert one.id == other.id
    assert report_job(asked[0][0], sets[0].ref, {"whole": True}).id == jobs[0].id  # what `eval` has measured is reused


def test_scores_have_a_table_of_their_own(cli: Cli, root: Path) -> None:
    sets = [put_set(root, "a"), put_set(root, "b")]
    rows = [[row(0.5, 0.6, scores={"gain": 0.1, "hlr": hlr})] for hlr in (0.25, 0.125)]
    put_reports(root, *zip(sets, rows, strict=True))
    lines = [line.split() for line in cli("compare", "a", "b").out.splitlines()]
    place = lines.index(["scores,", "in", "fractions"])
    assert lines[place + 1 : place + 4] == [
        ["network", "labels", "set", "hlr"],
        ["convnet2", "soft", "A", "0.25"],
        ["convnet2", "soft", "B", "0.125"],
    ]


def test_other_numbers_of_networks_are_compared_by_welch_and_one_says_nothing(cli: Cli, root: Path) -> None:
    sets = [put_set(root, name) for name in ("a", "b", "c", "d")]
    measured = [[row(0.50, 0.56, 0.56)], [row(0.62, 0.64, 0.66)], [row(0.60, 0.64)], [row(0.6)]]
    put_reports(root, *zip(sets, measured, strict=True))
    lines = cli("compare", *"abcd").out.splitlines()
    assert "intervals of the difference, B: paired by seed" in lines
    assert "intervals of the difference, C, D: Welch's t, for other numbers of networks" in lines
    assert "one network cannot tell a difference from noise; train more (--repeats)" in lines
    assert [" ".join(line.split()[3:]) for line in lines if line.startswith("convnet2  soft")][2:4] == [
        "62.0 [36.6, 87.4] +8.0 [-4.2, +20.2] noise",
        "60.0 +6.0 unknown",
    ]
    _, b, c, d = cli("compare", *"abcd", "--json").document["results"][0]["sets"]
    assert [each["to_first"]["paired"] for each in (b, c, d)] == [True, False, False]
    assert (d["accuracy_low"], d["to_first"]["low"], d["to_first"]["verdict"]) == (None, None, "unknown")


def test_without_random_images_and_with_coresets(cli: Cli, root: Path) -> None:
    sets = [put_set(root, "a"), put_set(root, "b")]
    alone = replace(row(0.5, 0.6), random_accuracies=())
    put_reports(root, (sets[0], [alone]), (sets[1], [alone]))
    text = cli("compare", "a", "b").out
    assert "real images" not in text
    assert " ".join(text.splitlines()[5].split()) == "convnet2 soft B 55.0 [0.0, 100.0] +0.0 [+0.0, +0.0] noise"
    chosen = replace(alone, coresets={"herding": (0.40, 0.44), "el2n": (0.3, 0.3)})
    sets = [put_set(root, "c"), put_set(root, "d")]
    put_reports(root, (sets[0], [chosen]), (sets[1], [alone]))
    lines = [line.split()[2:5] for line in cli("compare", "c", "d").out.splitlines() if line.startswith("convnet2")]
    assert lines[2:] == [["A", "herding", "42.0"], ["A", "el2n", "30.0"]]


@pytest.mark.parametrize("count", [2, 5, 30])
def test_tables_fit_a_terminal_of_80_columns_without_being_cut(root: Path, count: int) -> None:
    sets = [put_set(root, f"set-{i}", distill={"ipc": i + 1, "image_lr": 1234.5 + i}, seed=i) for i in range(count)]
    longest = [
        row(1.0, 0.0, 0.0, 0.5, coresets={"confident": (0.0, 1.0, 0.5)}, labels=kind) for kind in ("soft", "hard")
    ]
    longest = [replace(each, arch="torchvision:mobilenet_v3_large") for each in longest]
    results = {"results": longest}
    outcomes = [Outcome(artifact=s, reused=True, metrics=results, elapsed_s=1, peak_memory_bytes=1) for s in sets]
    blocks = list(Compared.by(Comparison(sets=tuple(sets), outcomes=tuple(outcomes))).blocks())
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    tables = [block for block in blocks if not isinstance(block, str)]
    if count == 30:
        tables.pop()  # as many columns as sets
    lines = as_text(tables, console).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    assert len([line for line in lines if "] noise" in " ".join(line.split())]) == 2 * (count - 1)
    assert len([line for line in lines if "  random  " in line]) == 2 * count
    assert ([_letter(i) for i in range(count)] in [line.split() for line in lines]) == (count < 30)


def test_sets_beyond_the_alphabet_have_letters_too() -> None:
    assert [_letter(number) for number in (0, 25, 26, 51, 52)] == ["A", "Z", "A1", "Z1", "A2"]


# --- what is refused


def refused(answer: Answer, code: int, says: str) -> None:
    error, hint = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
    assert (answer.code, answer.out) == (code, "")
    assert error.startswith("error: ")
    assert says in error
    assert hint.startswith("hint: ")
    assert "evaluating" not in answer.err
    assert "reusing" not in answer.err


def test_fewer_than_two_and_the_same_twice(cli: Cli, two: list[Artifact]) -> None:
    refused(cli("compare"), 2, "Missing argument")
    refused(cli("compare", "one"), 2, "a comparison needs two sets or more")
    for again in (two[0].ref, two[0].id[:6], str(two[0].path)):
        refused(cli("compare", "one", "two", again), 2, f"{two[0].ref} is named twice")


def test_what_is_no_set(cli: Cli, root: Path, two: list[Artifact]) -> None:
    pool = put(root, "pool", "teachers")
    refused(cli("compare", "one", "nothing"), 3, "there is no set 'nothing'")
    refused(cli("compare", "one", pool.ref), 3, f"{pool.ref} is a pool, not a set")
    refused(cli("compare", "one", str(pool.path)), 3, "is a pool, not a set")


OTHER = {"fingerprint": "e" * 16}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"dataset": "toys", "shape": [3, 8, 8]}, "it is of toys, not of digits"),
        ({"shape": [1, 16, 16]}, "its images are 1 x 16 x 16, not 1 x 8 x 8"),
        ({"classes": ["0", "1", "2"]}, "it has 3 classes, not 2"),
        ({"classes": ["0", "2"]}, "its classes are others"),
        ({"split": "val/ (6 images)"}, "it is tested on val/ (6 images), not on a fifth"),
        ({}, "its images of digits are others"),
    ],
)
def test_sets_of_other_data(cli: Cli, root: Path, data: dict[str, Any], says: str) -> None:
    base: dict[str, Any] = DATA | {"split": "a fifth"}
    sets = [put_set(root, "a", data=base), put_set(root, "b", data=base), put_set(root, "c", data=base | OTHER | data)]
    answer = cli("compare", "a", "b", "c")
    refused(answer, 3, f"{sets[2].ref} cannot be compared with {sets[0].ref}: {says}")
    assert not (root / "reports").exists()


def test_data_are_the_same_whatever_they_are_called(cli: Cli, root: Path) -> None:
    sets = [put_set(root, "a"), put_set(root, "b", data=DATA | {"dataset": "numerals"})]
    put_reports(root, (sets[0], A), (sets[1], B))
    assert cli("compare", "a", "b").code == 0


def test_what_one_set_lacks_is_told_before_another_is_trained(cli: Cli, root: Path) -> None:
    sets = [put_set(root, "a"), put_set(root, "b", data=DATA | {"split": "none"})]
    put_reports(root, (sets[0], A))
    refused(cli("compare", "a", "b"), 4, f"{sets[1].ref} was distilled from data without a test split")
    refused(cli("compare", "a", "b", "--arch", "convnet9"), 2, "convnet9")
    refused(cli("compare", "a", "b", "--epochs", "0"), 2, "--epochs must be at least 1")
