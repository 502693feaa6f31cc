"""Python API: load a distilled set as tensors and a torch data set, and bring test images into its space.

Shape legend: M images in the set, B test images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apmctl_core.artifacts.artifact import Artifact, open_artifact
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.artifacts.store import Store
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Event, Note
from apmctl_core.hub.find import find
from apmctl_core.storage.files import user_store
from apmctl_core.values import DistilledSet

_LOG = logging.getLogger("apmctl")


class LoadedSet(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """A distilled set in memory, which torch's DataLoader takes as it is: each item is image, logits, label.

    `images` float32 (M, C, H, W) in the space that networks train in · `logits` float32 (M, K) · `labels` int64 (M,)
    · `classes`, the names of the K labels · `preprocessing`, into that space and back · `artifact`, the folder, id,
    recipe and metrics.
    """

    def __init__(self, artifact: Artifact, values: DistilledSet) -> None:
        self.artifact = artifact
        self.images = values.images
        self.logits = values.logits
        self.labels = values.labels
        self.classes = values.classes
        self.preprocessing: Preprocessing = values.preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.images[index], self.logits[index], self.labels[index]

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"<{self.artifact.ref}: {len(self)} images, {shape}, {len(self.classes)} classes>"

    def preprocess(self, images: Tensor | np.ndarray) -> Tensor:
        """Test images in the space of `images`, float32 (B, C, H, W).

        `images` are uint8 of 0 to 255 or floats of 0 to 1: (B, C, H, W) or (B, H, W, C), and without C for grey ones.
        Raises DataError for another shape.
        """
        tensor = torch.as_tensor(images)
        c, h, w = self.images.shape[1:]
        if c == 1 and tensor.ndim == 3:
            tensor = tensor[:, None]
        if tensor.ndim == 4 and tensor.shape[1:] != (c, h, w) and tensor.shape[1:] == (h, w, c):
            tensor = tensor.permute(0, 3, 1, 2)
        if tensor.ndim != 4 or tensor.shape[1:] != (c, h, w):
            raise DataError(f"this set takes no images of shape {tuple(tensor.shape)}", f"give (B, {c}, {h}, {w})")
        if tensor.dtype not in (torch.uint8, torch.float32):
            tensor = tensor.to(torch.float32)
        return self.preprocessing.to(tensor.device).forward(tensor)


def load(ref: str | Path, *, store: str | Path | None = None, emit: Emit | None = None) -> LoadedSet:
    """A distilled set by its folder, its name in the store, or `hf:owner/name[@revision]`; every value is checked.

    `store` is where artifacts are kept (default: `APMCTL_HOME`, else the user's data folder); what is on the Hub is
    pulled into it, once. Notes go to `emit`, or to the logger "apmctl". Raises ArtifactError where the set is missing
    or damaged, NetworkError for the network and the credentials.
    """
    home = Store(Path(store).expanduser() if store is not None else user_store())
    artifact = open_artifact(ref, "set") if isinstance(ref, Path) else find(home, ref, "set", emit=emit or _log)
    return LoadedSet(artifact, load_set(artifact))


def _log(event: Event) -> None:
    if isinstance(event, Note):
        _LOG.log(logging.WARNING if event.level == "warning" else logging.INFO, event.text)
