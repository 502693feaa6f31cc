"""Data sets: a name or a path in, uint8 images and labels out, decoded once, then memory-mapped.

`preprocessing` is not imported here: finding and reading a cached data set needs only numpy, not torch.
"""

from apmctl_core.data.dataset import Dataset, Split, release
from apmctl_core.data.loading import Choices, find_cached, find_fingerprint, inspect, is_path, load
from apmctl_core.data.sampling import require_images, stratified_sample
from apmctl_core.data.source import KNOWN, DatasetSpec

__all__ = [
    "KNOWN",
    "Choices",
    "Dataset",
    "DatasetSpec",
    "Split",
    "find_cached",
    "find_fingerprint",
    "inspect",
    "is_path",
    "load",
    "release",
    "require_images",
    "stratified_sample",
]
