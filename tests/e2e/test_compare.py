"""Sets that were really made, compared: trained once, measured alike, and refused where they do not belong together."""

import numpy as np
import pytest

from tests.command import Shell
from tests.e2e.conftest import TINY

SHORT = ("--epochs", "2", "--repeats", "2", "--labels", "soft", "--device", "cpu")


@pytest.fixture(scope="module")
def compared(made):
    """The sets of two seeds, the report on the first, and the comparison."""
    shell, first = made
    other = shell.json("distill", "digits", *TINY, "--seed", "1", "--name", "other")
    ids = [document["artifact"]["id"] for document in (first, other)]
    report = shell.json("eval", ids[0], *SHORT)
    return shell, ids, report, shell("compare", *ids, *SHORT, "--json")


def test_the_report_that_exists_is_reused_and_the_other_is_made_by_the_same_recipe(compared):
    shell, ids, report, answer = compared
    document = answer.document
    assert [each["id"] for each in document["sets"]] == ids
    assert [each["reused"] for each in document["reports"]] == [True, False]
    assert document["reports"][0]["id"] == report["artifact"]["id"]
    assert f"reusing report {report['artifact']['name']}@{report['artifact']['id']} on" in answer.err
    assert "seed 0 (others: 1)" in answer.err
    ((first, second),) = (row["sets"] for row in document["results"])
    assert first["accuracies"] == report["results"][0]["accuracies"]
    assert document["differences"]["recipe.seed"] == [0, 1]
    # `eval` with what the note says finds the other report.
    alone = shell.json("eval", ids[1], *SHORT, "--seed", "0")
    assert alone["artifact"]["reused"]
    assert alone["results"][0]["accuracies"] == second["accuracies"]


def test_the_difference_is_that_of_networks_with_one_seed(compared):
    ((first, second),) = (row["sets"] for row in compared[3].document["results"])
    differences = np.subtract(second["accuracies"], first["accuracies"])
    reach = 12.7062 * differences.std(ddof=1) / 2**0.5
    to_first = second["to_first"]
    assert to_first["paired"] is True
    assert to_first["difference"] == pytest.approx(differences.mean())
    bounds = (max(-1, differences.mean() - reach), min(1, differences.mean() + reach))
    assert (to_first["low"], to_first["high"]) == pytest.approx(bounds, abs=1e-4)


def test_again_nothing_is_trained_and_folders_are_as_good_as_names(compared, tmp_path):
    shell, ids, _, answer = compared
    paths = [each["path"] for each in answer.document["sets"]]
    before = shell.artifacts()
    again = Shell(shell.store).json("compare", paths[0], ids[1], *SHORT)
    assert again["results"] == answer.document["results"]
    assert all(each["reused"] for each in again["reports"])
    assert shell.artifacts() == before


def test_a_set_of_other_images_is_refused_before_anything_is_trained(compared, tmp_path):
    image = pytest.importorskip("PIL.Image")
    shell, ids, *_ = compared
    for name in ("a", "b"):
        (tmp_path / "lamps" / name).mkdir(parents=True)
        for i in range(10):
            image.new("L", (8, 8), 20 * i).save(tmp_path / "lamps" / name / f"{i}.png")
    shell.json("distill", tmp_path / "lamps", *TINY, "--name", "lamps")
    before = shell.artifacts()
    answer = shell("compare", ids[0], "lamps", "--epochs", "3")
    assert (answer.code, answer.out, shell.artifacts()) == (3, "", before)
    assert "cannot be compared with" in answer.err
    assert "it is of lamps, not of digits" in answer.err
