"""The registry of architectures, and how a network is built from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from apmctl_core.config import ModelConfig
from apmctl_core.errors import ConfigError
from apmctl_core.registry import Registry

Shape = tuple[int, int, int]  # (C, H, W) of an image
Make = Callable[..., nn.Module]  # width, shape, number of classes, and what its variants set
Variants = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    `smallest` is the side in pixels of the smallest images that it takes · `variants` what words behind its name set,
    e.g. `max` in `convnet3-max` · `scales` whether it comes in the width that is asked for, or in one alone.
    """

    make: Make
    smallest: int
    variants: Variants = field(default_factory=dict)
    scales: bool = True


class Architectures(Registry[Architecture]):
    """Networks by name; `NAME-WORD` is one with other layers, `FAMILY:NAME` a member of a family."""

    def __init__(self) -> None:
        super().__init__("model.arch")
        self.families: dict[str, Callable[[str], Architecture]] = {}

    def __missing__(self, name: str) -> Architecture:
        family, colon, member = name.partition(":")
        if colon and family in self.families:
            return self.families[family](member)
        base, *words = name.split("-")
        if words and base in self:
            return self._variant(self[base], words, name)
        try:
            return super().__missing__(name)
        except ConfigError as e:
            families = ", ".join(f"{prefix}:NAME" for prefix in self.families)
            raise ConfigError(e.message, f"{e.hint}; or {families}, or a variant such as convnet3-batch-max") from None

    def _variant(self, plain: Architecture, words: Sequence[str], name: str) -> Architecture:
        options: dict[str, str] = {}
        for word in words:
            if word not in plain.variants or plain.variants[word].keys() & options.keys():
                known = ", ".join(plain.variants) or "none"
                raise ConfigError(f"`model.arch` cannot be {name!r}", f"variants of {name.split('-')[0]}: {known}")
            options |= plain.variants[word]
        return replace(plain, make=functools.partial(plain.make, **options))


ARCHITECTURES = Architectures()

# Names for several networks; `auto` is that of the set.
GROUPS = {"cross": ("auto", "vgg11", "resnet18", "vit")}


def describe(model: ModelConfig) -> str:
    """A network in a few words: its name and, where it has one, its width."""
    return f"{model.arch} of width {model.width}" if ARCHITECTURES[model.arch].scales else model.arch


def architecture(
    name: str, *, smallest: int = 1, variants: Variants | None = None, scales: bool = True
) -> Callable[[Make], Make]:
    """Register the decorated constructor, called with width, image shape (C, H, W) and number of classes.

    The other arguments are fields of `Architecture`. Whether it depends on its batch is found out by trying it
    (`Habits`); nothing has to be declared.
    """

    def register(make: Make) -> Make:
        ARCHITECTURES.add(name, Architecture(make, smallest, variants or {}, scales))
        return make

    return register


def family(prefix: str) -> Callable[[Callable[[str], Architecture]], Callable[[str], Architecture]]:
    """Register the decorated function, which gives the architecture of `PREFIX:NAME` for a NAME, or ConfigError."""

    def register(find: Callable[[str], Architecture]) -> Callable[[str], Architecture]:
        ARCHITECTURES.families[prefix] = find
        return find

    return register


def build(model: ModelConfig, shape: Shape, num_classes: int, seed: int = 0) -> nn.Module:
    """A network with random weights from `seed`, on the CPU; the global random state is left as it was.

    Raises ConfigError for an unknown architecture, and for images that are too small for it.
    """
    arch, side = ARCHITECTURES[model.arch], min(shape[1:])
    if side < arch.smallest:
        raise ConfigError(
            f"{model.arch} needs images of {arch.smallest}x{arch.smallest} pixels or more, not {shape[1]}x{shape[2]}",
            f"for `model.arch`, choose one of: {', '.join(n for n, a in ARCHITECTURES.items() if a.smallest <= side)}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = arch.make(model.width, shape, num_classes)
    network.habits = habits_of(model, shape, num_classes)  # type: ignore[assignment]
    return network


@dataclass(frozen=True)
class Habits:
    """What training does besides computing each image's logits from its pixels and the weights.

    `mixes`: an image is seen otherwise beside other images, or statistics of batches are kept (batch normalisation), so
    that a batch is neither cut into segments nor padded · `draws`: random numbers are drawn (dropout).
    """

    mixes: bool
    draws: bool

    @property
    def depends_on_batch(self) -> bool:
        """Whether a batch must stay as it is: what is drawn for an image depends on its place, too."""
        return self.mixes or self.draws


@functools.lru_cache(maxsize=64)
def habits_of(model: ModelConfig, shape: Shape, num_classes: int) -> Habits:
    """The habits of a network, found out by training passes over two small batches of noise that share an image."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        torch.manual_seed(0)
        network = ARCHITECTURES[model.arch].make(model.width, shape, num_classes).train()
        shared, *others = torch.randn(4, 2, *shape).split(1)
        kept = [buffer.clone() for buffer in network.buffers()]
        logits, drawn = [], False
        for other in others[:2]:
            torch.manual_seed(1)
            before = torch.get_rng_state()
            logits.append(network(torch.cat([shared[0], other[0]]))[:2])
            drawn |= not torch.equal(before, torch.get_rng_state())
        changed = any(not torch.equal(a, b) for a, b in zip(kept, network.buffers(), strict=True))
        return Habits(mixes=changed or not torch.allclose(logits[0], logits[1], atol=1e-5, rtol=1e-4), draws=drawn)
