"""What is expected of the data sets that are known by name, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apmctl_core.data.rows import Source

KNOWN: dict[str, DatasetSpec] = {}


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set that is known by name. One file in `data/known/` defines and registers it.

    It is downloaded from the repository `hub`, or `open` makes it from an installed package. `shape` is (C, H, W);
    `train` and `test` are the numbers of images of the full set, from which a local copy may differ. `test_splits`
    lists the labelled splits to test on: the first that exists is taken. `mean_std` holds the mean and the standard
    deviation of each channel that published runs use; without it they are measured.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int
    train: int
    test: int
    hub: str | None = None
    open: Callable[[], Source] | None = None
    image_column: str = "image"
    label_column: str = "label"
    test_splits: tuple[str, ...] = ("test",)
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.open is None):
            raise ValueError(f"data set {self.name!r} needs either `hub` or `open`")

    @property
    def is_packaged(self) -> bool:
        """Whether the data come with an installed package, so that nothing is downloaded or read from files."""
        return self.open is not None


def register(spec: DatasetSpec) -> DatasetSpec:
    """Make a data set known by its name. Raises ValueError for a name that is taken."""
    if spec.name in KNOWN:
        raise ValueError(f"data set {spec.name!r} is already registered")
    KNOWN[spec.name] = spec
    return spec
