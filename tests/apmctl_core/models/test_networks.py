"""Networks by name: their form for small images, their variants, and what they are refused for."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from apmctl_core.config import ModelConfig
from apmctl_core.errors import ConfigError
from apmctl_core.models import ARCHITECTURES, build, habits_of, size_of

SMALL, CIFAR = (1, 8, 8), (3, 32, 32)
CLASSICS = ("alexnet", "vgg11", "vgg16", "resnet18", "resnet50", "mobilenetv2", "vit")


def network(arch: str, shape: tuple[int, int, int] = CIFAR, width: int = 8) -> nn.Module:
    return build(ModelConfig(arch=arch, width=width), shape, 10)


def layers(arch: str, kind: type[nn.Module], shape: tuple[int, int, int] = CIFAR) -> list[nn.Module]:
    return [layer for layer in network(arch, shape).modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("arch", CLASSICS)
def test_a_classic_takes_small_images_of_any_channels_and_learns(arch: str) -> None:
    made = network(arch, SMALL).train()
    loss = nn.functional.cross_entropy(made(torch.randn(4, *SMALL)), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    # The first convolution sees every pixel: a small image is not shrunk before anything has looked at it.
    first = next(layer for layer in made.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == 1
    assert first.stride == ((4, 4) if arch == "vit" else (1, 1))


@pytest.mark.parametrize(
    ("arch", "millions"),
    [("vgg11", 9.23), ("vgg16", 14.72), ("resnet18", 11.17), ("resnet50", 23.52), ("mobilenetv2", 2.24)],
)
def test_classics_have_the_weights_that_the_field_counts(arch: str, millions: float) -> None:
    """Weights without buffers, in millions, of ten classes of 32x32 images."""
    assert sum(p.numel() for p in network(arch).parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_small_images_are_not_shrunk_by_the_stem() -> None:
    assert not layers("resnet18", nn.MaxPool2d)
    sizes: list[torch.Size] = []
    mobile = network("mobilenetv2")
    mobile.features.register_forward_hook(lambda _, __, output: sizes.append(output.shape[2:]))
    mobile.eval()(torch.zeros(1, *CIFAR))
    assert sizes == [(4, 4)]  # three of its five strides are left


def test_the_transformer_is_that_of_the_protocols() -> None:
    made = network("vit")
    assert (made.patch_size, made.hidden_dim, len(made.encoder.layers)) == (4, 512, 3)
    assert made.encoder.layers[0].num_heads == 4
    assert made.seq_length == 8 * 8 + 1
    with pytest.raises(ConfigError, match="which 10x10 is not made of"):
        network("vit", (3, 10, 10))


@pytest.mark.parametrize(
    ("arch", "norm", "depends"),
    [
        ("convnet2", nn.GroupNorm, False),
        ("convnet2-batch", nn.BatchNorm2d, True),
        ("convnet2-group-max", nn.GroupNorm, False),
        ("vgg11", nn.BatchNorm2d, True),
        ("vgg11-instance", nn.GroupNorm, False),
        ("resnet18-layer", nn.GroupNorm, False),
        ("resnet18", nn.BatchNorm2d, True),
    ],
)
def test_a_word_behind_a_name_chooses_the_normalisation(arch: str, norm: type[nn.Module], depends: bool) -> None:
    norms = layers(arch, (nn.GroupNorm, nn.BatchNorm2d), SMALL)
    assert norms and {type(layer) for layer in norms} == {norm}
    assert habits_of(ModelConfig(arch=arch, width=8), SMALL, 10).depends_on_batch is depends


def test_groups_of_each_normalisation() -> None:
    groups = {word: layers(f"convnet1-{word}", nn.GroupNorm)[0].num_groups for word in ("instance", "group", "layer")}
    assert groups == {"instance": 8, "group": 4, "layer": 1}
    assert not layers("convnet1-nonorm", (nn.GroupNorm, nn.BatchNorm2d))
    with pytest.raises(ConfigError, match="6 channels cannot be normalised in 4 groups"):
        network("convnet1-group", width=6)


def test_a_word_behind_a_name_chooses_the_pooling() -> None:
    assert len(layers("convnet2-max", nn.MaxPool2d)) == 2 and not layers("convnet2-max", nn.AvgPool2d)
    assert not layers("convnet2-nopool", (nn.MaxPool2d, nn.AvgPool2d))
    assert network("convnet2-nopool").classifier.in_features == 8 * 32 * 32


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("convnet3-zzz", "'convnet3-zzz'"),
        ("convnet3-batch-group", "'convnet3-batch-group'"),
        ("vit-batch", "'vit-batch'"),
        ("resnet19", "'resnet19'"),
        ("torchvision:resnet19", "torchvision:resnet19"),
        ("torchvision:", "torchvision:"),
        ("timm:resnet18", "'timm:resnet18'"),
    ],
)
def test_an_unknown_network_is_refused_with_the_near_ones(arch: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        network(arch)
    assert caught.value.hint
    if "-" not in arch and ":" not in arch:
        assert caught.value.hint.endswith("or torchvision:NAME, or a variant such as convnet3-batch-max")


@pytest.mark.parametrize("name", ["resnet34", "densenet121", "shufflenet_v2_x1_0", "squeezenet1_1", "convnext_tiny"])
def test_any_classifier_of_torchvision_takes_small_images(name: str) -> None:
    made = network(f"torchvision:{name}").eval()
    assert made(torch.randn(2, *CIFAR)).shape == (2, 10)


def test_the_stem_of_a_torchvision_network_keeps_a_small_image_and_shrinks_a_large_one() -> None:
    stems = [layers("torchvision:resnet34", nn.Conv2d, shape)[0] for shape in (CIFAR, (3, 128, 128))]
    assert [stem.stride for stem in stems] == [(1, 1), (2, 2)]
    assert [stem.kernel_size for stem in stems] == [(3, 3), (7, 7)]


def test_a_torchvision_network_that_fails_on_the_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="inception_v3 cannot be trained on images of 8x8 pixels") as caught:
        network("torchvision:inception_v3", SMALL)
    assert "`data.resolution`" in caught.value.hint


def test_only_networks_that_come_in_widths_have_one() -> None:
    assert ARCHITECTURES["convnet3-max"].scales and not ARCHITECTURES["resnet18"].scales
    sizes = {width: size_of(ModelConfig(arch="resnet18", width=width), SMALL, 10).weights for width in (8, 128)}
    assert sizes[8] == sizes[128]


@pytest.mark.parametrize("arch", ["resnet18", "vgg11", "torchvision:resnet34"])
def test_a_torchvision_of_another_torch_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, arch: str) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        network(arch)
    assert "of one build" in caught.value.hint
    assert network("convnet2")
