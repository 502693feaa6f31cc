"""The data sets that are known by name, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """A known data set: where it lies on the Hub, its columns, its shape (C, H, W) and its counts.

    `hub` is None for a set that needs no download. `test_splits` names the labelled split that is tested on, the first
    that exists; the counts are those of the full set, from which a local copy may differ.
    """

    hub: str | None
    image_column: str
    label_column: str
    shape: tuple[int, int, int]
    num_classes: int
    train: int
    test: int
    test_splits: tuple[str, ...] = ("test",)


KNOWN: dict[str, Spec] = {
    "digits": Spec(None, "image", "label", (1, 8, 8), 10, 1438, 359),
    "cifar10": Spec("uoft-cs/cifar10", "img", "label", (3, 32, 32), 10, 50_000, 10_000),
    "cifar100": Spec("uoft-cs/cifar100", "img", "fine_label", (3, 32, 32), 100, 50_000, 10_000),
    "tiny-imagenet": Spec(
        "zh-plus/tiny-imagenet", "image", "label", (3, 64, 64), 200, 100_000, 10_000, ("valid", "validation", "test")
    ),
    # The Hub's copy has the photographs at full size; they are made 64x64 when they are decoded. Its test split has
    # no labels.
    "imagenet-1k": Spec(
        "ILSVRC/imagenet-1k", "image", "label", (3, 64, 64), 1000, 1_281_167, 50_000, ("validation", "valid")
    ),
}
