"""Tiny ImageNet, and ImageNet-1k at the same size of 64x64."""

from __future__ import annotations

from apmctl_core.data.source import DatasetSpec, register

_WORDNET = ("n[0-9]{8}",)  # what folders are called, here and in other copies of ImageNet
_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

register(
    DatasetSpec(
        name="tiny-imagenet",
        hub="zh-plus/tiny-imagenet",
        shape=(3, 64, 64),
        num_classes=200,
        train=100_000,
        test=10_000,
        test_splits=("valid", "val", "validation", "test"),
        mean_std=_MEAN_STD,
        classes=_WORDNET,
    )
)

# The Hub's copy has the photographs at full size; decoding makes them 64x64. Its test split has no labels.
register(
    DatasetSpec(
        name="imagenet-1k",
        hub="ILSVRC/imagenet-1k",
        shape=(3, 64, 64),
        num_classes=1000,
        train=1_281_167,
        test=50_000,
        test_splits=("validation", "val", "valid"),
        photographs=True,
        mean_std=_MEAN_STD,
        classes=_WORDNET,
    )
)
