"""How large a network is: multiply-adds, activations and weights, counted by torch on the meta device."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from apmctl_core.config import ModelConfig
from apmctl_core.models.registry import Shape, build, depends_on_batch

_BATCH = 2  # batch statistics of a single value are refused


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """Of one image: `multiply_adds` of a forward pass, `activations` kept for its gradients (elements).

    Of the network: `weights` (elements, buffers included), and whether it `depends_on_batch`.
    """

    multiply_adds: float
    activations: float
    weights: int
    depends_on_batch: bool

    def activation_bytes(self, precision: str) -> float:
        """Bytes that one image's activations take in a pass with gradients."""
        return self.activations * (2 if precision == "bf16" else 4)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in float32."""
        return 4 * self.weights


@functools.lru_cache(maxsize=64)
def size_of(model: ModelConfig, shape: Shape, num_classes: int) -> NetworkSize:
    """The size of a network, without allocating it. Raises ConfigError as `build` does."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = build(model, shape, num_classes).train()
        images = torch.empty(_BATCH, *shape)
    kept = _Kept(network)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        network(images)
    return NetworkSize(
        multiply_adds=counter.get_total_flops() / 2 / _BATCH,
        activations=kept.elements / _BATCH,
        weights=sum(value.numel() for value in network.state_dict().values()),
        depends_on_batch=depends_on_batch(network),
    )


def state_shapes(model: ModelConfig, shape: Shape, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights and buffers, without allocating them."""
    with torch.device("meta"):
        network = build(model, shape, num_classes)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


class _Kept:
    """Counts what autograd keeps of a forward pass; tensors that share their storage count once, weights never."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = {p.untyped_storage()._cdata for p in network.parameters()}
        self._storages: dict[int, int] = {}
        self._alive: list[Any] = []  # a storage that is freed would give its address to the next one

    def pack(self, tensor: Tensor) -> Tensor:
        """Count one tensor that is kept."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights and tensor.is_floating_point():
            self._alive.append(storage)
            self._storages[storage._cdata] = math.prod(tensor.shape)
        return tensor

    @staticmethod
    def unpack(tensor: Tensor) -> Tensor:
        """Hand a kept tensor back as it is."""
        return tensor

    @property
    def elements(self) -> int:
        """What is kept, and two gradients of the largest of it, which the way back holds at once."""
        sizes = self._storages.values()
        return sum(sizes) + 2 * max(sizes, default=0)
