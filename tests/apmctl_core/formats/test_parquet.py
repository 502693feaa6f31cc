"""Parquet files: splits by name, columns by name and type, labels of all kinds, damage."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apmctl_core.data import load
from apmctl_core.data.columns import detect
from apmctl_core.data.source import KNOWN
from apmctl_core.errors import DataError
from apmctl_core.formats.readers.parquet import split_of
from tests.apmctl_core.data.makers import Log, encoded, folder, image, label_feature, parquet, pixels, rows

ANIMALS = label_feature(["cat", "dog"])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def relabel(items: list[dict[str, Any]], labels: list[Any]) -> list[dict[str, Any]]:
    return [item | {"label": label} for item, label in zip(items, labels, strict=True)]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("data/test-0.parquet", "test"),
        ("val.parquet", "validation"),
        ("valid-00000.parquet", "validation"),
        ("validation_1.parquet", "validation"),
        ("config/train/0000.parquet", "train"),
        ("trains.parquet", None),
        ("images.parquet", None),
        ("values.parquet", None),
    ],
)
def test_the_split_of_a_file_is_its_first_word(path: str, split: str | None) -> None:
    assert split_of(PurePosixPath(path)) == split


def test_a_hub_layout_with_metadata_has_its_class_names(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", rows(8), ANIMALS)
    parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", rows(8, start=8), ANIMALS)
    parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", rows(4, start=50), ANIMALS)
    data = load(str(tmp_path / "set"), cache)
    assert data.classes == ("cat", "dog") and data.train.labels.tolist() == [0, 1] * 8
    expected = np.stack([pixels(s).transpose(2, 0, 1) for s in range(16)])
    assert np.array_equal(data.train.images, expected)
    assert np.array_equal(data.test.images[0], pixels(50).transpose(2, 0, 1))


def test_files_written_by_datasets_are_read(tmp_path: Path, cache: Path) -> None:
    import datasets

    made = datasets.Dataset.from_dict(
        {"image": [image(i) for i in range(6)], "label": [0, 1] * 3},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}),
    )
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train.parquet")
    made.to_parquet(tmp_path / "set" / "test.parquet")
    data = load(str(tmp_path / "set"), cache)
    assert data.classes == ("no", "yes") and np.array_equal(data.test.images[5], pixels(5).transpose(2, 0, 1))


def test_a_single_file_gets_the_fixed_split(tmp_path: Path, cache: Path) -> None:
    path = parquet(tmp_path / "images.parquet", rows(20))
    parquet(tmp_path / "other.parquet", rows(4))
    data = load(str(path), cache)
    assert (len(data.train), len(data.test), data.classes) == (16, 4, ("0", "1"))


def test_present_classes_are_numbered_from_0_in_their_order(tmp_path: Path, cache: Path) -> None:
    names = [f"n{i}" for i in range(10)]
    parquet(tmp_path / "set" / "train.parquet", relabel(rows(4), [7, 2, 7, 5]), label_feature(names))
    parquet(tmp_path / "set" / "valid.parquet", relabel(rows(2), [5, 7]), label_feature(names))
    data = load(str(tmp_path / "set"), cache)
    assert data.classes == ("n2", "n5", "n7")
    assert data.train.labels.tolist() == [2, 0, 2, 1] and data.test.labels.tolist() == [1, 2]


def test_numbers_without_names_are_sorted_as_numbers(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "train.parquet", relabel(rows(6), [10, 9, 100, 10, 9, 100]))
    assert load(str(tmp_path / "train.parquet"), cache).classes == ("9", "10", "100")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_labels_are_classes_sorted_by_name(tmp_path: Path, cache: Path, kind: pa.DataType) -> None:
    (tmp_path / "set").mkdir()
    for split, labels in (("train", ["pear", "fig", "pear", "fig"]), ("test", ["pear", "pear", "fig", "fig"])):
        table = pa.table({"image": [r["image"] for r in rows(4)], "label": pa.array(labels).cast(kind)})
        pq.write_table(table, tmp_path / "set" / f"{split}.parquet")
    data = load(str(tmp_path / "set"), cache)
    assert data.classes == ("fig", "pear")
    assert data.train.labels.tolist() == [1, 0, 1, 0] and data.test.labels.tolist() == [1, 1, 0, 0]


def test_images_may_be_plain_binary(tmp_path: Path, cache: Path) -> None:
    items = [{"picture": encoded(image(i)), "label": i % 2} for i in range(10)]
    assert load(str(parquet(tmp_path / "x.parquet", items)), cache).shape == (3, 8, 8)


def test_a_test_split_without_labels_is_not_tested_on(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "train.parquet", rows(20))
    parquet(tmp_path / "set" / "test.parquet", relabel(rows(4), [-1] * 4))
    data = load(str(tmp_path / "set"), cache)
    assert len(data.test) == 4
    assert data.notes == ("testing on a held-out fifth of the images (4 of 20): the data has no labelled test split",)
    parquet(tmp_path / "set" / "validation.parquet", rows(6))
    assert len(load(str(tmp_path / "set"), cache).test) == 6


def test_columns_are_detected_by_name_then_by_type() -> None:
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = [("img", picture), ("thumbnail", picture), ("fine_label", pa.int64()), ("coarse_label", pa.int64())]
    found = detect(pa.schema(table), None)
    assert (found.image, found.label, found.names) == ("img", "fine_label", None)
    assert detect(pa.schema([("photo", picture), ("label", pa.int64())]), None).image == "photo"
    spec = KNOWN["cifar100"]
    both = pa.schema([("image", picture), ("img", picture), ("label", pa.int8()), ("fine_label", pa.int8())])
    assert (detect(both, spec).image, detect(both, spec).label) == ("img", "fine_label")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "label"], "image column is ambiguous: a, b"),
        (["image", "img", "label"], "image column is ambiguous: image, img"),
        (["label"], "no image column among: label"),
        (["image", "label", "fine_label"], "label column is ambiguous: label, fine_label"),
        (["image"], "no label column among: image"),
    ],
)
def test_ambiguous_or_missing_columns_are_named(names: list[str], message: str) -> None:
    schema = pa.schema([(n, pa.int64() if "label" in n else pa.binary()) for n in names])
    with pytest.raises(DataError, match=message):
        detect(schema, None)


@pytest.mark.parametrize(
    "metadata",
    [b"", b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}', b'{"info": {"features": {"label": 1}}}',
     b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}', b"[" * 5000, b"\xff\xfe"],
)  # fmt: skip
def test_odd_metadata_is_no_metadata(metadata: bytes) -> None:
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())], metadata={"huggingface": metadata})
    assert detect(schema, None).names is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, None, 1], "row 2 of .* has no label"),
        ([0, 1, -5, 1], "row 2 of .* has no label"),
        ([0.5, 1.0, 0.5, 1.0], "values of type double"),
        ([[0], [1], [0], [1]], "values of type list"),
        ([1, 1, 1, 1], "single class"),
        (["a", None, "b", "b"], "row 1 of .* has no label"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, cache: Path, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(str(parquet(tmp_path / "x.parquet", relabel(rows(4), labels))), cache)


def test_a_label_beyond_the_class_names_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"row 3 of .* has label 9, but there are only 2 class names"):
        load(str(parquet(tmp_path / "x.parquet", relabel(rows(4), [0, 1, 0, 9]), ANIMALS)), cache)


@pytest.mark.parametrize("bad", [b"no image", b"", None])
def test_a_bad_image_is_named_by_file_and_row(tmp_path: Path, cache: Path, bad: bytes | None) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", rows(100))
    items = rows(150)
    items[131]["image"] = {"bytes": bad, "path": None}
    parquet(tmp_path / "set" / "train-1.parquet", items)
    with pytest.raises(DataError, match=r"row 131 of .*train-1\.parquet is not an image"):
        load(str(tmp_path / "set"), cache)


def test_a_path_in_a_parquet_file_is_never_opened(tmp_path: Path, cache: Path) -> None:
    image(0).save(tmp_path / "secret.png")
    items = rows(10)
    items[4]["image"] = {"bytes": None, "path": str(tmp_path / "secret.png")}
    with pytest.raises(DataError, match=r"row 4 of .* is not an image"):
        load(str(parquet(tmp_path / "x.parquet", items)), cache)


def test_a_truncated_file_is_named(tmp_path: Path, cache: Path) -> None:
    path = parquet(tmp_path / "x.parquet", rows(10))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"x\.parquet is not a sound parquet file"):
        load(str(path), cache)


def test_damaged_bytes_raise_one_line_or_load(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", rows(10))
    good, rng = path.read_bytes(), np.random.default_rng(1)
    for i in range(40):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            load(str(path), tmp_path / f"cache{i}")
        except DataError as error:
            assert "\n" not in error.message


def test_files_of_other_columns_are_named(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", rows(4))
    parquet(tmp_path / "set" / "train-1.parquet", [{"image": r["image"], "klass": 0} for r in rows(4)])
    with pytest.raises(DataError, match=r"train-1\.parquet has no column 'label'"):
        load(str(tmp_path / "set"), cache)


def test_label_types_that_differ_between_files_are_refused(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", rows(4))
    parquet(tmp_path / "set" / "train-1.parquet", relabel(rows(4), ["a", "b", "a", "b"]))
    with pytest.raises(DataError, match="different types in different files"):
        load(str(tmp_path / "set"), cache)


def test_several_data_sets_in_one_folder_are_refused(tmp_path: Path, cache: Path) -> None:
    for name in ("small", "large"):
        parquet(tmp_path / "set" / name / "train-0.parquet", rows(4))
    with pytest.raises(DataError, match="several data sets: large, small"):
        load(str(tmp_path / "set"), cache)


def test_test_files_alone_are_refused_and_nameless_ones_left_out(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "set" / "test-0.parquet", rows(4))
    with pytest.raises(DataError, match="no training split"):
        load(str(tmp_path / "set"), cache)
    parquet(tmp_path / "set" / "train-0.parquet", rows(4))
    parquet(tmp_path / "set" / "extra.parquet", rows(4))
    log = Log()
    assert len(load(str(tmp_path / "set"), cache, emit=log).train) == 4
    assert "extra.parquet is left out" in log.notes


def test_an_empty_table_is_refused(tmp_path: Path, cache: Path) -> None:
    table = pa.Table.from_pylist(rows(2)).slice(0, 0)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no training images"):
        load(str(tmp_path / "x.parquet"), cache)


def test_a_known_set_is_read_with_its_columns_and_test_split(tmp_path: Path, cache: Path) -> None:
    pictures = [{"bytes": encoded(image(i, size=(32, 32))), "path": None} for i in range(2)]
    items = [{"img": pictures[i % 2], "fine_label": i, "coarse_label": 0} for i in range(100)]
    parquet(tmp_path / "c" / "cifar100" / "train-0.parquet", items)
    parquet(tmp_path / "c" / "cifar100" / "test-0.parquet", items)
    log = Log()
    data = load("cifar100", cache, path=tmp_path / "c", emit=log)
    assert (data.shape, data.notes) == ((3, 32, 32), ())
    assert "100 classes, 100 training and 100 test images; the full set has 100 classes, 50,000" in log.notes


def test_imagenets_test_split_is_its_validation_split(tmp_path: Path, cache: Path) -> None:
    names = label_feature(["n01443537", "n02124075"])
    parquet(tmp_path / "set" / "train-0.parquet", rows(4), names)
    parquet(tmp_path / "set" / "test-0.parquet", rows(2), names)
    parquet(tmp_path / "set" / "validation-0.parquet", rows(4, start=30), names)
    data = load("imagenet-1k", cache, path=tmp_path / "set")
    assert data.shape == (3, 64, 64) and len(data.test) == 4


def test_parquet_beside_images_is_what_is_read(tmp_path: Path, cache: Path) -> None:
    folder(tmp_path / "set", {"a": 3, "b": 3})
    parquet(tmp_path / "set" / "train.parquet", rows(30))
    assert load(str(tmp_path / "set"), cache).classes == ("0", "1")
