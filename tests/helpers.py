"""Small data and plain implementations that several tests share."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from apmctl_core.config import ModelConfig
from apmctl_core.data import Dataset, Split
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.machine.runtime import Runtime
from apmctl_core.machine.segment import Segment
from apmctl_core.models import build
from apmctl_core.seeding import Stream
from apmctl_core.training.context import Context
from apmctl_core.values import TeacherPool

MODEL = ModelConfig(arch="convnet2", width=8)


def context(segment=0, *, seed=0, images=64, compile=False, **more):
    """A context on the CPU in eager fp32; `segment` is the most images in a pass, of at most `images`."""
    cut = Segment(limit=segment, images=images)
    runtime = Runtime(device=torch.device("cpu"), compile=compile, limit=segment, segment=cut)
    return Context(stream=Stream(seed), runtime=runtime, **more)


def toy_dataset(per_class=20, classes=3, side=8, channels=3, seed=0):
    """Classes that differ in the brightness of a quadrant, with noise: easy, but not trivial."""
    rng = np.random.default_rng(seed)

    def split(count):
        labels = np.repeat(np.arange(classes), count)
        images = rng.integers(0, 120, (len(labels), channels, side, side))
        for i, k in enumerate(labels):
            images[i, :, (k // 2) * 4 : (k // 2) * 4 + 4, (k % 2) * 4 : (k % 2) * 4 + 4] += 110
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    names = tuple(f"class {k}" for k in range(classes))
    return Dataset("toy", names, split(per_class), split(10), "0" * 64)


def standard():
    return Preprocessing("standard", {"mean": torch.full((3,), 0.3), "std": torch.full((3,), 0.25)})


def toy_pool(count=2, model=MODEL, classes=3, shape=(3, 8, 8), dtype=torch.float32):
    states = [
        {k: v.to(dtype) for k, v in build(model, shape, classes, seed).state_dict().items()} for seed in range(count)
    ]
    return TeacherPool(model=model, shape=shape, num_classes=classes, states=states, preprocessing=standard())


def contents(root):
    """Every path in a store, hidden ones included, with its bytes, but for what tells of seconds and dates."""
    timed = {"events.jsonl", "manifest.json"}
    return {str(p.relative_to(root)): b"" if p.name in timed or p.is_dir() else p.read_bytes() for p in root.rglob("*")}


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of products and convolutions, those of gradients included."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.count += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result
