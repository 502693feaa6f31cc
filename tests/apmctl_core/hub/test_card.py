"""The card: valid metadata, honest numbers, and nothing of a stranger's text taken for markup."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
import torch
import yaml
from safetensors.torch import save_file

from apmctl_core.artifacts import Store
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.errors import ConfigError
from apmctl_core.events import Event, Note
from apmctl_core.hub.card import card, code, measured
from apmctl_core.hub.push import reported

from .samples import RECIPE, ROW, SHAPE, put_pool, put_report, put_set, standard, whitening


def front(text: str) -> dict[str, Any]:
    head, _, _ = text.removeprefix("---\n").partition("\n---\n")
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_the_metadata_of_a_set(store: Store) -> None:
    found = front(card(put_set(store), "o/n", (), "cc-by-4.0", 10))
    assert found["license"] == "cc-by-4.0"
    assert found["task_categories"] == ["image-classification"]
    assert found["size_categories"] == ["n<1K"]
    assert "dataset-distillation" in found["tags"]
    assert found["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]


@pytest.mark.parametrize(
    ("images", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (50_000, "10K<n<100K"), (2_000_000, "n>1M")]
)
def test_the_size_of_a_set(store: Store, images: int, size: str) -> None:
    assert front(card(put_set(store), "o/n", (), None, images))["size_categories"] == [size]


def test_the_metadata_of_a_pool(store: Store) -> None:
    text = card(put_pool(store), "o/n")
    assert front(text)["pipeline_tag"] == "image-classification"
    assert "90.0 ± 1.0" in text
    assert "--teachers hf:o/n" in text


def test_a_pool_says_what_its_accuracy_was_measured_on(store: Store) -> None:
    pool = put_pool(store)
    metrics = {"test_accuracy_mean": 0.91, "test_accuracy_std": 0.01}
    for data, said in (
        ({}, "test split, last"),
        ({"split": "val/ (30 images)"}, "test split (`val/ (30 images)`), last"),
    ):
        manifest = msgspec.structs.replace(pool.manifest, metrics=metrics, data={**pool.manifest.data, **data})
        text = card(dataclasses.replace(pool, manifest=manifest), "o/n")
        assert f"Accuracy on the {said} epoch: 91.0 ± 1.0." in text


def test_a_set_says_how_it_was_made_and_how_it_is_loaded(store: Store) -> None:
    import tomllib

    made = put_set(store)
    text = card(made, "o/n", [ROW], None, 10)
    said = (
        "![",
        made.id,
        "apmctl pull o/n",
        'apmctl_core.load("hf:o/n")',
        'load_dataset("o/n"',
        "load_file",
        "@article",
    )
    for part in said:
        assert part in text
    toml = text.split("```toml\n")[1].split("\n```")[0]
    assert tomllib.loads(toml) == RECIPE | {"seed": 0}


@pytest.mark.parametrize("space", ["standard", "whitening", "whitening of an earlier version"])
def test_the_plain_code_of_a_card_gives_the_set_and_its_space(
    store: Store, monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    wanted = standard() if space == "standard" else whitening()
    made = put_set(store, "plain", salt=1, space=wanted)
    if "earlier" in space:
        whole = {**wanted.tensors, "inverse": torch.linalg.inv(wanted.tensors["matrix"]).contiguous()}
        save_file(whole, made.path / "preprocessing.safetensors")
    (plain,) = [part for part in card(made, "o/n").split("```python\n") if "load_file" in part]
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name, repo_type: str(made.path / name))
    ran: dict[str, Any] = {}
    exec(plain.split("\n```")[0], ran)
    pixels = torch.randint(0, 256, (3, *SHAPE))
    assert torch.allclose(ran["preprocess"](pixels), wanted.forward(pixels.to(torch.uint8)), atol=1e-5)
    assert ran["images"].shape[1:] == SHAPE and len(ran["labels"]) == len(ran["logits"]) == len(ran["images"])


def test_rows_stand_beside_random_under_their_protocol() -> None:
    other = ReportRow("convnet3", "hard", ROW.accuracies, (), {"networks": 5, "epochs": 1000})
    text = measured([ROW, other, ROW], "o/n")
    assert "| `convnet3` | `soft` | 84.1 [68.5, 99.7] | 70.0 [44.6, 95.4] | +14.1 [-15.7, +44.0] | 1 |" in text
    assert "| `convnet3` | `hard` | 84.1 [68.5, 99.7] | - | - | 2 |" in text
    assert "1. `epochs 300, networks 2, selection last epoch`" in text


def test_a_set_without_rows_is_not_measured() -> None:
    assert "Not measured yet" in measured([], "o/n")


def test_the_same_artifact_gives_the_same_card(store: Store) -> None:
    made = put_set(store)
    assert card(made, "o/n", [ROW], None, 10) == card(made, "o/n", [ROW], None, 10)


@pytest.mark.parametrize("license", ["MIT License", "a\nb: c", "", "-x", "x" * 80])
def test_a_license_is_an_identifier(store: Store, license: str) -> None:
    if license:
        with pytest.raises(ConfigError, match="license"):
            card(put_set(store), "o/n", (), license)


def test_what_is_not_known_of_the_machine_is_left_out(store: Store) -> None:
    pool = put_pool(store)
    assert "Made with apmctl `0.1.0`, torch `2`." in card(pool, "o/n")
    manifest = msgspec.structs.replace(pool.manifest, environment={})
    assert "Made with" not in card(dataclasses.replace(pool, manifest=manifest), "o/n")


def test_names_are_shown_as_code() -> None:
    assert code("a`b|c\n<img src=x>") == "`a'b/c <img src=x>`"
    assert code("") == "` `"


def test_a_recipe_of_somebody_else_cannot_break_out(store: Store) -> None:
    recipe = RECIPE | {"note": "```\n<script>", "data": {"dataset": "digits", "preprocessing": "standard"}, "seed": 8}
    text = card(put_set(store, "odd", salt=8, recipe=recipe), "o/n")
    fences = [line for line in text.splitlines() if line.startswith("```")]
    assert len(fences) % 2 == 0
    assert "\n<script>" not in text


def test_a_report_with_a_changed_accuracy_is_on_no_card(store: Store) -> None:
    distilled = put_set(store)
    report, heard = put_report(store, distilled), list[Event]()
    assert reported(store, distilled, heard.append) == [ROW]
    assert heard == []
    path = report.file("report.json")
    path.write_bytes(path.read_bytes().replace(b"0.8535", b"0.9535"))
    assert reported(store, distilled, heard.append) == []
    (note,) = heard
    assert isinstance(note, Note)
    assert note.text.startswith(f"skipped {report.ref}: {report.path}/report.json is not the file that was written")
