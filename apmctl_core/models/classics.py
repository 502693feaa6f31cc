"""The networks that sets are tested on beside ConvNet, from torchvision, in their form for small images.

Their stems keep the size of the image, and what poolings are too many for it are left out. They come in one width.
torchvision is imported when one of them is asked for.
"""

from __future__ import annotations

from torch import Tensor, nn

from apmctl_core.errors import ConfigError
from apmctl_core.models import vision
from apmctl_core.models.norms import VARIANTS, norm_layer
from apmctl_core.models.registry import Shape, architecture

_PATCH, _DIM, _LAYERS, _HEADS = 4, 512, 3, 4


@architecture("alexnet", smallest=8, scales=False)
def alexnet(_: int, shape: Shape, num_classes: int) -> nn.Module:
    """AlexNet (Krizhevsky et al. 2012): its five convolutions, 2x2 poolings, and one layer instead of three."""
    original = vision.models().alexnet
    network = original(num_classes=num_classes)
    network.features[0] = nn.Conv2d(shape[0], 64, 5, padding=2)
    _pool(network.features, shape, nn.MaxPool2d(2))
    network.avgpool = nn.Identity()
    network.classifier = nn.Linear(256 * (shape[1] // 8) * (shape[2] // 8), num_classes)
    made: nn.Module = network
    return made


@architecture("vgg11", variants=VARIANTS, scales=False)
def vgg11(_: int, shape: Shape, num_classes: int, norm: str = "batch") -> nn.Module:
    """VGG11 (Simonyan & Zisserman 2015) with batch normalisation and one layer behind the convolutions."""
    return _Vgg("A", shape, num_classes, norm)


@architecture("vgg16", variants=VARIANTS, scales=False)
def vgg16(_: int, shape: Shape, num_classes: int, norm: str = "batch") -> nn.Module:
    """VGG16, as VGG11."""
    return _Vgg("D", shape, num_classes, norm)


@architecture("resnet18", variants=VARIANTS, scales=False)
def resnet18(_: int, shape: Shape, num_classes: int, norm: str = "batch") -> nn.Module:
    """ResNet18 (He et al. 2016) with a stem of one 3x3 convolution and no pooling, as for CIFAR."""
    original = vision.models().resnet18
    return _resnet(original(num_classes=num_classes, norm_layer=lambda c: norm_layer(norm, c)), shape)


@architecture("resnet50", variants=VARIANTS, scales=False)
def resnet50(_: int, shape: Shape, num_classes: int, norm: str = "batch") -> nn.Module:
    """ResNet50, as ResNet18."""
    original = vision.models().resnet50
    return _resnet(original(num_classes=num_classes, norm_layer=lambda c: norm_layer(norm, c)), shape)


@architecture("mobilenetv2", scales=False)
def mobilenetv2(_: int, shape: Shape, num_classes: int) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) with strides of 1 in the stem and in the first stage that has 2."""
    original = vision.models().mobilenet_v2
    network = original(num_classes=num_classes)
    network.features[0][0] = nn.Conv2d(shape[0], 32, 3, padding=1, bias=False)
    network.features[2].conv[1][0].stride = (1, 1)
    made: nn.Module = network
    return made


@architecture("vit", smallest=_PATCH, scales=False)
def vit(_: int, shape: Shape, num_classes: int) -> nn.Module:
    """A small vision transformer (Dosovitskiy et al. 2021): patches of 4x4, 512 numbers a token, 3 layers, 4 heads.

    Raises ConfigError for images that are no squares of whole patches.
    """
    channels, height, side = shape
    if height != side or side % _PATCH:
        raise ConfigError(
            f"vit cuts images into patches of {_PATCH}x{_PATCH}, which {height}x{side} is not made of",
            f"set `data.resolution` to a multiple of {_PATCH}",
        )
    network = vision.models().VisionTransformer(side, _PATCH, _LAYERS, _HEADS, _DIM, _DIM, num_classes=num_classes)
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, _DIM, _PATCH, _PATCH)
    made: nn.Module = network
    return made


class _Vgg(nn.Module):
    """The convolutions of a VGG of torchvision; its own classifier alone has 120 million weights."""

    def __init__(self, letter: str, shape: Shape, num_classes: int, norm: str) -> None:
        super().__init__()
        vgg = vision.models().vgg
        features = vgg.make_layers(vgg.cfgs[letter], batch_norm=True)
        features[0] = nn.Conv2d(shape[0], 64, 3, padding=1)
        for index, layer in enumerate(features):
            if isinstance(layer, nn.BatchNorm2d):
                features[index] = norm_layer(norm, layer.num_features)
        _pool(features, shape, nn.MaxPool2d(2))
        self.features = features
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x_BCHW).mean((2, 3)))
        return logits


def _resnet(network: nn.Module, shape: Shape) -> nn.Module:
    network.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _pool(features: nn.Sequential, shape: Shape, pool: nn.Module) -> None:
    """Put `pool` in the place of a network's poolings, and nothing in that of those that a small image cannot have."""
    side = min(shape[1:])
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            side //= 2
            features[index] = pool if side else nn.Identity()
