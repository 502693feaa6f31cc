"""The configuration of a run: frozen dataclasses that hold everything which decides a result.

What does not decide it (device, segment, compilation, names) lives in `machine.runtime` and never enters a digest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from msgspec import Meta

from apmctl_core.config.schema import FINITE, Config
from apmctl_core.errors import ConfigError

# More than 10**9 of anything is a slip of the hand.
Count = Annotated[int, Meta(ge=1, le=10**9)]
CountOrZero = Annotated[int, Meta(ge=0, le=10**9)]
Side = Annotated[int, Meta(ge=4, le=65536)]
Rate = Annotated[float, Meta(ge=0, le=FINITE)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Reach = Annotated[float, Meta(ge=0.001, le=0.5)]
Epochs = Annotated[Count, "Epochs; the learning rate drops tenfold at half of them."]
LearningRate = Annotated[Rate, "Learning rate."]
Seed = Annotated[int, Meta(ge=0, le=10**18)]
Committee = Literal["single", "mean"]
Dsa = Annotated[
    Literal["image", "batch"], "Each image draws one of DSA's six transformations, or all of a batch draw the same one."
]


NO_TEST = "none"  # the test split of those who want none
_TEST_SPLIT = (
    "Test images: a folder or split of the data set, ./DIR elsewhere, a fraction of the training images, or none "
    "[default: the data set's own, else a fixed fifth]."
)


def fraction_of(test_split: str) -> float | None:
    """The fraction of the training images that a `data.test_split` holds out; None where it is no number.

    Raises ConfigError for a number that is not between 0 and 1.
    """
    try:
        fraction = float(test_split)
    except ValueError:
        return None
    if not 0 < fraction < 1:
        message = f"`data.test_split` must be between 0 and 1, got {test_split}"
        raise ConfigError(message, "e.g. 0.2 to test on a fifth of the training images", field="data.test_split")
    return fraction


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config, path="data"):
    """The real images."""

    dataset: str
    resolution: Annotated[Side | None, "Side of the square images in pixels [default: the data set's own]."] = None
    preprocessing: Annotated[Literal["zca", "standard"], "Preprocessing of the images."] = "standard"
    test_split: Annotated[str | None, Meta(extra={"metavar": "DIR|FRACTION|none"}), _TEST_SPLIT] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test_split is not None and fraction_of(self.test_split) is None and not self.test_split.strip():
            hint = "name a folder or a split, or give a fraction, e.g. 0.2"
            raise ConfigError("`data.test_split` is empty", hint, field="data.test_split")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config, path="model"):
    """The network of teachers, students and, unless told otherwise, of the evaluation."""

    arch: Annotated[
        str, "Network, e.g. convnet3, resnet18 or vit; auto: the deepest ConvNet that leaves 4x4 pixels."
    ] = "auto"
    width: Annotated[int, Meta(ge=1, le=4096), "Filters in each block of a ConvNet."] = 128


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config, path="distill.student"):
    """One training by SGD: of a teacher, a student, or a network of the evaluation."""

    epochs: Epochs = 250
    lr: LearningRate = 0.02
    momentum: Annotated[Fraction, "Momentum of SGD."] = 0.9
    weight_decay: Annotated[Rate, "Weight decay of SGD."] = 5e-4
    batch: Annotated[Count, "Images per step."] = 256
    dsa: Dsa = "image"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(TrainConfig, path="teachers"):
    """The pool of teachers."""

    count: Annotated[int, Meta(ge=1, le=1000), "Teachers in the pool."] = 10
    epochs: Epochs = 100
    lr: LearningRate = 0.05
    seed: Annotated[Seed, "Seed of the teachers; that of the distillation is another one."] = 0


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Config, path="distill"):
    """What every method of distillation has; a method's own class derives from it."""

    method: Annotated[str, "Method of distillation."] = "apm"
    ipc: Annotated[Count, "Synthetic images per class."] = 10
    rounds: Annotated[CountOrZero, "R: updates of the images."] = 2500
    batch: Annotated[CountOrZero, "B: images drawn for an update (0 = all)."] = 0
    image_lr: Annotated[Rate | None, "Learning rate of the images; each takes 1/B of it [default: scaled with B]."] = (
        None
    )
    image_momentum: Annotated[Fraction, "Momentum of the images' SGD."] = 0.5
    image_decay: Annotated[Rate, "Factor on the images' learning rate after half the rounds."] = 0.3
    init: Annotated[Literal["real", "noise"], "Initial images: real ones or noise."] = "real"
    augment_images: Annotated[bool, "Also augment the images (DSA) in their own updates."] = False
    committee: Annotated[Committee, "Who labels the images: one teacher, or the mean of all."] = "single"

    def __post_init__(self) -> None:
        if type(self) is not _method_class(self.method):
            raise ConfigError(f"`distill.method` {self.method!r} is not configured by {type(self).__name__}")
        super().__post_init__()

    @classmethod
    def variant(cls, values: dict[str, Any], base: Any) -> type[DistillConfig]:
        return _method_class(values.get("method", getattr(base, "method", "apm")))

    def drawn(self, num_classes: int) -> int:
        """B: the images drawn for an update."""
        total = self.ipc * num_classes
        return min(self.batch or total, total)

    def settled(self, num_classes: int) -> Self:
        """The same with what depends on the number of classes decided, the images' learning rate aside."""
        # All images, however many were asked for.
        return replace(self, batch=0) if self.batch >= self.ipc * num_classes else self


METHODS: dict[str, type[DistillConfig]] = {}
M = TypeVar("M", bound=DistillConfig)


def method_config(name: str) -> Callable[[type[M]], type[M]]:
    """Register a config class as that of the method `name`, which must be the default of its field `method`."""

    def register(cls: type[M]) -> type[M]:
        if cls.method != name:
            raise TypeError(f'{cls.__name__} needs the field: method: str = "{name}"')
        METHODS[name] = cls
        return cls

    return register


def _method_class(name: Any) -> type[DistillConfig]:
    if not isinstance(name, str) or name not in METHODS:
        choices = ", ".join(METHODS)
        raise ConfigError(f"`distill.method` cannot be {name!r}", f"choose one of: {choices}", field="distill.method")
    return METHODS[name]


@method_config("apm")
@dataclass(frozen=True, kw_only=True)
class ApmConfig(DistillConfig):
    """Adversarial prediction matching."""

    student: TrainConfig = TrainConfig()
    checkpoints: Annotated[Count, "Kc: checkpoints kept of a student, at equal intervals."] = 5
    refresh_every: Annotated[Count, "G: rounds that share a student."] = 3
    draw: Annotated[Literal["cycle", "round"], "B images are drawn once for each student, or anew in each round."] = (
        "cycle"
    )
    alpha: Annotated[Rate | None, "Weight of the teacher's cross-entropy [default: preset's, else 10/classes]."] = 0.1
    objective: Annotated[Literal["linear", "log"], "Discrepancy in the images' loss: d or log d (eq. 4)."] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs = self.student.epochs
        if self.checkpoints > epochs:
            message = f"`distill.checkpoints` {self.checkpoints} is more than `distill.student.epochs` {epochs}"
            hint = f"a student has at most one per epoch: set `distill.checkpoints` to {epochs} or less"
            raise ConfigError(message, hint, field="distill.checkpoints")

    def settled(self, num_classes: int) -> Self:
        # The discrepancy is a mean over classes: what pulls at one logit grows as they become fewer, and so must what
        # keeps an image in its class. 1 for the ten classes of the small presets, 0.1, as published, from a hundred on.
        settled = super().settled(num_classes)
        return settled if self.alpha is not None else replace(settled, alpha=max(0.1, round(10 / num_classes, 3)))


@dataclass(frozen=True, kw_only=True)
class EvalConfig(TrainConfig, path="evaluate"):
    """Networks trained on a set, and tested."""

    protocol: Annotated[str, "Protocol of the evaluation."] = "apm"
    epochs: Epochs = 1000
    repeats: Annotated[Count, "Networks trained per row, from random weights."] = 5
    labels: Annotated[tuple[Literal["soft", "hard"], ...], Meta(min_length=1), "Labels to train on (repeatable)."] = (
        "soft",
        "hard",
    )
    baseline: Annotated[
        tuple[str, ...], "Coresets to stand beside random images (repeatable): herding, k-center, el2n, confident, all."
    ] = ()
    interval: Annotated[
        Reach | None,
        "Train more networks until the 95% interval reaches at most X to either side [default: none].",
    ] = None
    rates: Annotated[
        tuple[Rate, ...] | None,
        "Learning rates to choose from on held-out training images (repeatable) [default: `lr` holds].",
    ] = None
    whole: Annotated[bool | None, "Also train on all real images, under hard labels (HLR, LRS) [default: off]."] = None
    whole_epochs: Annotated[Count | None, "Epochs on all real images [default: those of the teachers]."] = None
    unaugmented: Annotated[bool | None, "Also train without augmentation (ARS) [default: off]."] = None
    arch: Annotated[
        tuple[str, ...],
        "Networks to train (repeatable): auto is that of the set, cross it and three others [default: auto].",
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """Everything that decides the result of teachers, distill and eval on one data set."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    teachers: TeacherConfig = TeacherConfig()
    distill: DistillConfig = field(default_factory=ApmConfig)
    evaluate: EvalConfig = EvalConfig()
    seed: Annotated[Seed, "Seed of every random draw, those of the teachers aside."] = 0
    precision: Annotated[Literal["auto", "fp32", "bf16"], "Arithmetic of the networks; auto: bf16 if native."] = "auto"
