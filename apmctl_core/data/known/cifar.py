"""CIFAR-10 and CIFAR-100: 60,000 photographs of 32x32."""

from __future__ import annotations

from apmctl_core.data.source import DatasetSpec, register

_MEAN_STD = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # CIFAR-10's, which published runs use for both

for _name, _label, _classes in (("cifar10", "label", 10), ("cifar100", "fine_label", 100)):
    register(
        DatasetSpec(
            name=_name,
            hub=f"uoft-cs/{_name}",
            image_column="img",
            label_column=_label,
            shape=(3, 32, 32),
            num_classes=_classes,
            train=50_000,
            test=10_000,
            mean_std=_MEAN_STD,
        )
    )
