"""Pools, sets and reports: values in, the same values out, and everything refused that does not fit."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image

from apmctl_core.artifacts import Artifact, Manifest, Store, manifest, open_artifact
from apmctl_core.artifacts.kinds.pools import load_pool, save_teacher
from apmctl_core.artifacts.kinds.reports import Report, ReportRow, load_report, save_report
from apmctl_core.artifacts.kinds.sets import check_structure, load_set, save_set
from apmctl_core.artifacts.kinds.spaces import load_preprocessing, save_preprocessing
from apmctl_core.artifacts.verify import require_sound, verify
from apmctl_core.config import ModelConfig
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.errors import ArtifactError, MismatchError, NumericsError
from apmctl_core.formats.preview import MAX_CLASSES, chosen_classes, preview_png
from apmctl_core.storage import tensors as tensor_io
from tests import drafts
from tests.apmctl_core.artifacts.artifact_samples import (
    CLASSES,
    ROW,
    put_pool,
    set_value,
    teacher_shapes,
    teacher_state,
)

Put = dict[str, Callable[..., Artifact]]


def rewrite(artifact: Artifact, name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Artifact:
    """The artifact with changed tensors in one file, and a manifest that says that this is right."""
    path = artifact.path / name
    tensors, _ = tensor_io.read(path)
    change(tensors)
    tensor_io.write(path, tensors)
    return restate(artifact)


def restate(artifact: Artifact, **changes: Any) -> Artifact:
    drafts.restate(artifact.path, **changes)
    return open_artifact(artifact.path)


# --- sets


@pytest.mark.parametrize("baseline", [True, False])
def test_a_set_comes_back_as_it_was(store: Store, make: Callable[..., Manifest], baseline: bool) -> None:
    value, draft = set_value(3, baseline), make("set")
    with store.workspace("set", "demo", draft.id) as work:
        save_set(work.path, value)
        found = load_set(work.publish(draft))
    for name in ("images", "logits", "labels", "stage"):
        assert torch.equal(getattr(found, name), getattr(value, name))
    assert found.classes == CLASSES
    assert found.preprocessing.kind == "standard"
    assert torch.equal(found.preprocessing.tensors["std"], value.preprocessing.tensors["std"])
    assert (found.baseline is not None) == baseline
    if found.baseline is not None:
        assert torch.equal(found.baseline.index_DM, value.baseline.index_DM)
        assert torch.equal(found.baseline.logits_DMK, value.baseline.logits_DMK)


SET_CHANGES: list[tuple[str, Callable[[dict[str, torch.Tensor]], Any]]] = [
    ("set.safetensors", lambda t: t.pop("stage")),
    ("set.safetensors", lambda t: t.update(extra=torch.ones(1))),
    ("set.safetensors", lambda t: t.update(images=t["images"].double())),
    ("set.safetensors", lambda t: t.update(images=t["images"][:, :, :3].clone())),
    ("set.safetensors", lambda t: t.update(images=t["images"][:5].clone())),
    ("set.safetensors", lambda t: t.update(logits=t["logits"][:, :2].clone())),
    ("set.safetensors", lambda t: t.update(labels=t["labels"].int())),
    ("set.safetensors", lambda t: t.update(labels=t["labels"] - 1)),
    ("set.safetensors", lambda t: t.update(labels=t["labels"] + 1)),
    ("set.safetensors", lambda t: t.update(stage=t["stage"] - 1)),
    ("set.safetensors", lambda t: t["images"].view(-1)[3:4].fill_(float("nan"))),
    ("set.safetensors", lambda t: t["logits"].view(-1)[3:4].fill_(float("inf"))),
    ("set.safetensors", lambda t: t.update({k: v[:0].clone() for k, v in t.items()})),
    ("baseline.safetensors", lambda t: t.update(index=t["index"] - 100)),
    ("baseline.safetensors", lambda t: t.update(index=t["index"][:, :3].clone())),
    ("baseline.safetensors", lambda t: t.update(logits=t["logits"][:1].clone())),
    ("baseline.safetensors", lambda t: t["logits"].view(-1)[:1].fill_(float("nan"))),
    ("preprocessing.safetensors", lambda t: t.pop("std")),
    ("preprocessing.safetensors", lambda t: t.update(std=torch.zeros(1))),
    ("preprocessing.safetensors", lambda t: t.update(mean=torch.full((1,), float("nan")))),
    ("preprocessing.safetensors", lambda t: t.update(mean=torch.zeros(3), std=torch.ones(3))),
    (
        "preprocessing.safetensors",
        lambda t: (t.clear(), t.update(mean=torch.zeros(16), matrix=torch.eye(16), inverse=torch.eye(16))),
    ),
]


@pytest.mark.parametrize(("name", "change"), SET_CHANGES, ids=range(len(SET_CHANGES)))
def test_a_set_whose_tensors_do_not_fit_is_refused_even_if_its_manifest_vouches_for_it(
    store: Store, put: Put, name: str, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    changed = rewrite(put["set"](store), name, change)
    with pytest.raises(ArtifactError) as caught:
        load_set(changed)
    assert caught.value.hint
    assert verify(changed, teacher_shapes)


@pytest.mark.parametrize(
    "changes",
    [{"classes": ["a", "b"]}, {"classes": list("abcd")}, {"shape": [1, 4, 5]}, {"shape": [3, 4, 4]}],
    ids=str,
)
def test_a_manifest_that_contradicts_the_tensors_is_refused(store: Store, put: Put, changes: dict[str, Any]) -> None:
    made = put["set"](store)
    with pytest.raises(ArtifactError):
        load_set(restate(made, data=made.manifest.data | changes))


def test_a_recipe_of_another_preprocessing_is_refused(store: Store, put: Put) -> None:
    made = put["set"](store)
    with pytest.raises(ArtifactError, match=r"differ in data\.preprocessing"):
        restate(made, recipe={**made.manifest.recipe, "data": {"preprocessing": "zca"}})


def test_tensors_of_another_preprocessing_than_the_recipe_are_refused(
    store: Store, make: Callable[..., Manifest]
) -> None:
    zca = {"data": {"preprocessing": "zca"}}
    draft = make("set", recipe=zca, config=zca)
    with store.workspace("set", "demo", draft.id) as work:
        save_set(work.path, set_value())
        made = work.publish(draft)
    with pytest.raises(ArtifactError, match="is of kind standard"):
        load_set(made)


def test_a_set_with_a_nan_is_not_written(tmp_path: Path) -> None:
    value = set_value()
    value.images[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match="'images' holds numbers that are not finite"):
        save_set(tmp_path, value)
    assert list(tmp_path.iterdir()) == []


def test_the_structure_is_checked_without_reading_values(store: Store, put: Put) -> None:
    assert check_structure(put["set"](store)) == 6


def test_each_kind_is_loaded_as_itself(store: Store, put: Put) -> None:
    a_set, pool, report = put["set"](store), put["pool"](store), put["report"](store)
    with pytest.raises(MismatchError, match="is a pool, not a set"):
        load_set(pool)
    with pytest.raises(MismatchError, match="is a report, not a pool"):
        load_pool(report, teacher_shapes)
    with pytest.raises(MismatchError, match="is a set, not a report"):
        load_report(a_set)


# --- pools


def test_a_pool_comes_back_as_it_was_and_is_read_when_asked_for(store: Store) -> None:
    pool = load_pool(put_pool(store), teacher_shapes)
    assert (len(pool), pool.shape, pool.num_classes) == (3, (1, 4, 4), 3)
    assert pool.model == ModelConfig(arch="convnet1", width=4)
    for index in (0, 2, -1):
        wanted = teacher_state(index % 3)
        assert all(torch.equal(pool.states[index][k], v) for k, v in wanted.items())
    assert len(list(pool.states)) == 3
    with pytest.raises(IndexError):
        pool.states[3]
    assert pool.states[0]["fc.bias"] is not pool.states[0]["fc.bias"]


def test_a_teacher_of_another_network_is_refused_when_the_pool_is_opened(store: Store) -> None:
    made = put_pool(store)
    changed = rewrite(made, "teacher-001.safetensors", lambda t: t.update({"fc.bias": torch.zeros(4)}))
    with pytest.raises(ArtifactError, match=r"teacher-001.*'fc\.bias' is F32 \[4\]"):
        load_pool(changed, teacher_shapes)


def test_a_teacher_with_a_nan_is_refused_when_it_is_read(store: Store) -> None:
    changed = rewrite(put_pool(store), "teacher-001.safetensors", lambda t: t["fc.bias"].fill_(float("nan")))
    pool = load_pool(changed, teacher_shapes)
    assert pool.states[0]
    with pytest.raises(ArtifactError, match="not finite"):
        pool.states[1]
    with pytest.raises(NumericsError):
        save_teacher(store.root, 0, {"w": torch.tensor(float("nan"))})


@pytest.mark.parametrize(
    "recipe",
    [{}, {"model": 5}, {"model": {"arch": 5}}, {"model": {"depth": 1}}, {"model": {"arch": "convnet1", "width": 8}}],
    ids=str,
)
def test_a_recipe_without_its_network_is_refused(store: Store, recipe: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        load_pool(restate(put_pool(store), recipe=recipe), teacher_shapes)


def test_a_network_that_the_registry_lacks_is_a_bad_artifact(store: Store, make: Callable[..., Manifest]) -> None:
    from apmctl_core.models import state_shapes

    model = {"model": {"arch": "vit99", "width": 4}}
    draft = make("pool", recipe=model, config=model)
    with store.workspace("pool", "demo", draft.id) as work:
        save_teacher(work.path, 0, teacher_state(0))
        save_preprocessing(work.path, set_value().preprocessing)
        made = work.publish(draft)
    with pytest.raises(ArtifactError, match="vit99"):
        load_pool(made, state_shapes)


# --- preprocessing


ZCA = {"recipe": {"data": {"preprocessing": "zca"}}, "config": {"data": {"preprocessing": "zca"}}}


def whitened(store: Store, make: Callable[..., Manifest]) -> tuple[Artifact, Preprocessing]:
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    space = Preprocessing("zca", {"mean": torch.rand(16), "matrix": torch.eye(16) * 20 + noise + noise.T})
    draft = make("set", **ZCA)
    with store.workspace("set", "demo", draft.id) as work:
        save_set(work.path, dataclasses.replace(set_value(), preprocessing=space))
        return work.publish(draft), space


def test_zca_comes_back_as_it_was(store: Store, make: Callable[..., Manifest]) -> None:
    made, space = whitened(store, make)
    found = load_preprocessing(made)
    assert found.kind == "zca" and found.tensors.keys() == space.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in space.tensors.items())
    pixels = torch.rand(3, 1, 4, 4)
    assert (found.inverse(found.forward(pixels)) - pixels).abs().max() < 1e-5


def test_zca_of_images_of_another_size_is_refused(store: Store, make: Callable[..., Manifest]) -> None:
    made, _ = whitened(store, make)
    with pytest.raises(ArtifactError, match=r"'mean' is F32 \[16\], not F32 \[9\]"):
        load_preprocessing(restate(made, data=made.manifest.data | {"shape": [1, 3, 3]}))


def test_a_whole_matrix_with_its_inverse_is_read_as_earlier_versions_wrote_it(
    store: Store, make: Callable[..., Manifest]
) -> None:
    made, space = whitened(store, make)
    whole = {**space.tensors, "inverse": torch.linalg.inv(space.tensors["matrix"])}
    tensor_io.write(made.path / "preprocessing.safetensors", whole)
    assert torch.equal(load_preprocessing(restate(made)).tensors["matrix"], space.tensors["matrix"])


# --- bytes that are not those that were written


def flip(path: Path, offset: int = -3) -> None:
    """Change one bit near the end of a file, where there are only the low bits of values."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["set.safetensors", "baseline.safetensors", "preprocessing.safetensors"])
def test_a_set_with_one_other_bit_is_not_loaded(put: Put, store: Store, name: str) -> None:
    made = put["set"](store)
    flip(made.path / name)
    with pytest.raises(ArtifactError, match=f"{name} is not the file that was written"):
        load_set(open_artifact(made.path))


def test_a_teacher_with_one_other_bit_is_not_used(store: Store) -> None:
    made = put_pool(store)
    flip(made.path / "teacher-001.safetensors")
    pool = load_pool(open_artifact(made.path), teacher_shapes)
    assert pool.states[0]
    with pytest.raises(ArtifactError, match=r"teacher-001\.safetensors is not the file that was written"):
        pool.states[1]


def test_a_preprocessing_with_a_nan_is_not_written(tmp_path: Path) -> None:
    nan = {"mean": torch.tensor([float("nan")]), "std": torch.ones(1)}
    with pytest.raises(NumericsError, match="the preprocessing: 'mean' holds numbers that are not finite"):
        save_preprocessing(tmp_path, Preprocessing("standard", nan))
    assert list(tmp_path.iterdir()) == []


# --- reports


def test_a_report_comes_back_as_it_was(store: Store, make: Callable[..., Manifest]) -> None:
    row = ReportRow("convnet3", "soft", (0.5, 0.25), (), {"epochs": 3, "optimiser": "sgd"}, {"robustness": 0.4})
    draft = make("report")
    with store.workspace("report", "demo", draft.id) as work:
        save_report(work.path, Report("demo@0", (row, ROW)))
        assert load_report(work.publish(draft)) == Report("demo@0", (row, ROW))


def test_a_row_has_means_and_population_deviations_of_its_accuracies() -> None:
    row = ReportRow("convnet3", "soft", (0.5, 0.25), (), {})
    assert (row.accuracy_mean, row.accuracy_std) == (0.375, 0.125)
    assert (row.random_accuracy_mean, row.random_accuracy_std) == (None, None)
    assert row.cells() == ("37.5 [0.0, 100.0]", "-", "-")
    assert ROW.cells() == ("37.5 [0.0, 100.0]", "25.0", "+12.5")
    assert ROW.document() == {
        "arch": "convnet3",
        "labels": "soft",
        "accuracies": [0.5, 0.25],
        "accuracy_mean": 0.375,
        "accuracy_std": 0.125,
        "coresets": {},
        "random_accuracies": [0.25],
        "random_accuracy_mean": 0.25,
        "random_accuracy_std": 0.0,
        "protocol": {"epochs": 3},
        "scores": {},
        "unaugmented": {},
        "whole": [],
    }


def test_what_stands_beside_a_row_comes_with_intervals() -> None:
    row = ReportRow(
        "convnet3",
        "hard",
        (0.5, 0.52),
        (0.4, 0.3, 0.4, 0.3),
        {"random_draws": 2},
        {},
        {"herding": (0.45, 0.46)},
        (0.8,),
    )
    assert list(row.baselines) == ["random", "herding", "whole"]
    # Four networks on two draws are two of random images: 0.4 and 0.3.
    assert row.beside("random") == ("35.0 [0.0, 98.5]", "+16.0 [-48.8, +80.8]")
    assert row.beside("herding") == ("45.5 [39.1, 51.9]", "+5.5 [-8.7, +19.7]")
    assert row.beside("whole") == ("80.0", "-29.0")
    many = msgspec.structs.replace(row, coresets={"herding": (0.4, 0.3, 0.4, 0.3)})  # each network is one of its own
    assert many.beside("herding")[0] == "35.0 [25.8, 44.2]"
    assert row.beside("k-center") == ("-", "-")
    for draws in ("2", 2.0, True, -1, None):  # what strangers write
        strange = msgspec.structs.replace(row, protocol={"random_draws": draws})
        assert strange.beside("random")[0] == "35.0 [25.8, 44.2]"


def test_statistics_may_be_left_out_of_a_report_and_rounded_otherwise(store: Store, put: Put) -> None:
    made = put["report"](store)
    row = {name: value for name, value in ROW.document().items() if not name.startswith("random_accuracy_")}
    made.file("report.json").write_text(json.dumps({"set": "x", "results": [row | {"accuracy_std": 0.125 + 1e-12}]}))
    assert load_report(restate(made)).rows == (ROW,)


def test_a_report_with_a_changed_byte_is_not_opened(store: Store, put: Put) -> None:
    made = put["report"](store)
    path = made.file("report.json")
    path.write_bytes(path.read_bytes().replace(b'"epochs": 3', b'"epochs": 9'))
    with pytest.raises(ArtifactError, match=r"report\.json is not the file that was written"):
        open_artifact(made.path)


def test_a_report_has_at_most_four_megabytes(store: Store, put: Put) -> None:
    made = put["report"](store)
    path = made.file("report.json")
    path.write_bytes(path.read_bytes().ljust(4 << 20))
    assert load_report(restate(made)).rows == (ROW,)
    with path.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtifactError, match="larger than 4194304 bytes"):
        restate(made)


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({}, "set"),
        ({"set": "x"}, "results"),
        ({"set": "x", "results": 5}, "results"),
        ({"set": "x", "results": [5]}, r"results\[0\]"),
        ({"set": "x", "results": [{}] * 1_001}, "results"),
        *(
            ({"set": "x", "results": [ROW.document() | change]}, field)
            for change, field in [
                ({"accuracies": [1.5]}, "accuracies"),
                ({"accuracies": [-0.1]}, "accuracies"),
                ({"accuracies": [1e308]}, "accuracies"),
                ({"accuracies": [float("nan")]}, "NaN"),
                ({"random_accuracies": [float("inf")]}, "Infinity"),
                ({"accuracy_mean": 0.99}, r"results\[0\]\.accuracy_mean"),
                ({"accuracy_mean": "0.375"}, "accuracy_mean"),
                ({"accuracy_mean": None}, "accuracy_mean"),
                ({"accuracy_std": -0.125}, "accuracy_std"),
                ({"random_accuracy_mean": 1e308}, "random_accuracy_mean"),
                ({"random_accuracy_std": False}, "random_accuracy_std"),
                ({"random_accuracies": []}, "random_accuracy_mean"),
                ({"accuracies": [True]}, "accuracies"),
                ({"accuracies": ["0.5"]}, "accuracies"),
                ({"accuracies": []}, "accuracies"),
                ({"random_accuracies": [2]}, "random_accuracies"),
                ({"protocol": 3}, "protocol"),
                ({"scores": {"robustness": "high"}}, "scores"),
                ({"arch": ["convnet3"]}, "arch"),
                ({"arch": ""}, "arch"),
                ({"labels": "x" * 300}, "labels"),
            ]
        ),
    ],
    ids=lambda v: str(v)[:60],
)
def test_a_damaged_report_is_refused_with_its_field(store: Store, put: Put, report: Any, problem: str) -> None:
    made = put["report"](store)
    made.file("report.json").write_text(json.dumps(report))
    drafts.restate(made.path)
    with pytest.raises(ArtifactError, match=problem):
        open_artifact(made.path)
    (found,) = verify(Artifact(made.path, manifest.read(made.path)), teacher_shapes)
    assert re.search(problem, found)


def test_a_report_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(NumericsError):
        save_report(tmp_path, Report("x", (ReportRow("a", "soft", (float("nan"),), (), {}),)))
    with pytest.raises(ArtifactError, match="accuracies"):
        save_report(tmp_path, Report("x", (ReportRow("a", "soft", (50.0,), (), {}),)))
    assert list(tmp_path.iterdir()) == []


# --- verify


@pytest.mark.parametrize("kind", ["set", "pool", "report"])
def test_a_sound_artifact_has_no_problems(store: Store, put: Put, kind: str) -> None:
    made = put[kind](store)
    assert verify(made, teacher_shapes) == []
    require_sound(made, teacher_shapes)


@pytest.mark.parametrize("kind", ["set", "pool", "report"])
def test_a_flipped_bit_in_any_file_is_found(store: Store, put: Put, kind: str) -> None:
    made = put[kind](store)
    for name in made.manifest.files:
        content = bytearray(made.file(name).read_bytes())
        content[-2] ^= 1
        made.file(name).write_bytes(content)
        assert any(name in problem and "sha256" in problem for problem in verify(made, teacher_shapes))
        content[-2] ^= 1
        made.file(name).write_bytes(content)
    assert verify(made, teacher_shapes) == []


def test_files_that_the_manifest_does_not_list_are_reported(store: Store, put: Put) -> None:
    made = put["set"](store)
    (made.path / "x\x1b[2J").write_text("x")
    (made.path / "folder").mkdir()
    problems = verify(made, teacher_shapes)
    assert problems == ["'folder' is not in the manifest", "'x\\x1b[2J' is not in the manifest"]
    with pytest.raises(ArtifactError, match=r"folder.*and 1 more"):
        require_sound(made, teacher_shapes)


def test_no_more_than_twenty_strays_are_told(store: Store, put: Put) -> None:
    made = put["set"](store)
    for number in range(25):
        (made.path / f"{number:02}").touch()
    assert verify(made, teacher_shapes) == [f"'{number:02}' is not in the manifest" for number in range(20)]
    assert verify(made, teacher_shapes, strays=False) == []


def test_what_is_wrong_besides_is_a_warning(store: Store, put: Put) -> None:
    made, heard = put["set"](store), list[Any]()
    for name in ("a", "b", "c"):
        (made.path / name).touch()
    with pytest.raises(ArtifactError, match=rf"{made.ref} is damaged: 'a' is not in the manifest \(and 2 more\)$"):
        require_sound(made, teacher_shapes, emit=heard.append)
    assert [event.text for event in heard] == [f"{made.ref}: '{name}' is not in the manifest" for name in "bc"]
    (made.path / "b").unlink()
    (made.path / "c").unlink()
    with pytest.raises(ArtifactError, match=r"in the manifest$"):
        require_sound(made, teacher_shapes)
    require_sound(made, teacher_shapes, strays=False)


def test_a_preview_must_be_a_png(store: Store, make: Callable[..., Manifest]) -> None:
    draft = make("set")
    with store.workspace("set", "demo", draft.id) as work:
        save_set(work.path, set_value())
        work.write("preview.png", b"<svg/>")
        made = work.publish(draft)
    assert verify(made, teacher_shapes) == ["preview.png is not a PNG"]


def test_files_swapped_between_artifacts_are_found(store: Store, put: Put) -> None:
    one, two = put["set"](store, "one", 1), put["set"](store, "two", 2)
    for name in ("set.safetensors", "baseline.safetensors"):
        mine, theirs = one.file(name).read_bytes(), two.file(name).read_bytes()
        one.file(name).write_bytes(theirs)
        two.file(name).write_bytes(mine)
        for artifact in (one, two):
            assert verify(artifact, teacher_shapes) == [
                f"{artifact.path / name} is not the file that was written: its sha256 differs"
            ]
        one.file(name).write_bytes(mine)
        two.file(name).write_bytes(theirs)


@pytest.mark.parametrize(
    "line", [b"{", b"[]\n", b'{"a": NaN}\n', b"x" * (1 << 21), b'{"a": "\\u001b"}\n'], ids=range(5)
)
def test_a_history_must_be_lines_of_objects(store: Store, put: Put, line: bytes) -> None:
    made = put["set"](store)
    with made.file("events.jsonl").open("ab") as file:
        file.write(line)
    (problem,) = verify(restate(made), teacher_shapes)
    assert "line 2" in problem


# --- preview


def test_a_preview_shows_the_images_in_pixel_space_enlarged() -> None:
    value = set_value()
    data = preview_png(value)
    assert data == preview_png(value)
    image = Image.open(io.BytesIO(data))
    tile, gap = 64, 2
    assert image.mode == "RGB"
    assert image.height == 3 * (tile + gap) + gap
    left = image.width - 2 * (tile + gap)
    wanted = (value.preprocessing.inverse(value.images[:1]).clamp(0, 1) * 255).round()[0, 0]
    for y, x in ((0, 0), (1, 2), (3, 3)):
        pixel = image.getpixel((left + x * 16 + 8, gap + y * 16 + 8))
        assert pixel == (int(wanted[y, x]),) * 3


def wide_set(classes: int, per_class: int, side: int, channels: int = 3) -> Any:
    m = classes * per_class
    return dataclasses.replace(
        set_value(),
        images=torch.zeros(m, channels, side, side),
        logits=torch.zeros(m, classes),
        labels=torch.arange(classes).repeat_interleave(per_class),
        stage=torch.zeros(m, dtype=torch.int64),
        classes=tuple(f"класс \U0001f600 {i} with a very long name" for i in range(classes)),
        preprocessing=Preprocessing("standard", {"mean": torch.zeros(channels), "std": torch.ones(channels)}),
        baseline=None,
    )


@pytest.mark.parametrize(("classes", "per_class", "side"), [(1, 1, 1), (100, 15, 8), (3, 2, 200), (21, 1, 65)])
def test_a_preview_is_bounded_whatever_the_set(classes: int, per_class: int, side: int) -> None:
    data = preview_png(wide_set(classes, per_class, side))
    width, height = Image.open(io.BytesIO(data)).size
    assert width <= 10 * 132 + 400
    assert height <= 20 * 132
    assert data == preview_png(wide_set(classes, per_class, side))


def test_a_class_without_images_has_an_empty_row() -> None:
    value = dataclasses.replace(set_value(), labels=torch.full((6,), 2))
    assert Image.open(io.BytesIO(preview_png(value))).height == 3 * 66 + 2


def test_shown_classes_are_spread_over_all() -> None:
    assert chosen_classes(3) == [0, 1, 2]
    shown = chosen_classes(1000)
    assert len(shown) == MAX_CLASSES
    assert shown[:3] == [0, 50, 100]


@pytest.mark.parametrize("name", ["random", "whole", "distilled"])
def test_a_coreset_cannot_pass_for_other_images(tmp_path: Path, name: str) -> None:
    row = ReportRow("convnet3", "soft", (0.5,), (0.2,), {}, coresets={name: (0.9,)})
    with pytest.raises(ArtifactError, match=f"coresets cannot have '{name}'"):
        save_report(tmp_path, Report("x", (row,)))
