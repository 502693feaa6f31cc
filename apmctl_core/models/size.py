"""How large a network is: multiply-adds, activations and weights, counted while it runs once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apmctl_core.config import ModelConfig
from apmctl_core.machine.cost import Cost
from apmctl_core.models.registry import Shape, build, habits_of
from apmctl_core.values import Task

# Floating-point operations per multiply-add of a forward pass: with all gradients, the inputs' alone, none.
ALL_GRADIENTS, INPUT_GRADIENTS, FORWARD = 6, 4, 2
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

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in float32."""
        return 4 * self.weights

    def cost(self, task: Task, *, passes: float, step: int, most: int = 0, fixed_bytes: float = 0) -> Cost:
        """The cost of work with such networks on images of a task.

        `passes` counts images, each times the operations per multiply-add of its pass · `step` images in a training
        step, at most `most` in a pass without one (0 for none of either) · `fixed_bytes` whatever the segment.
        """
        whitening = 3 * math.prod(task.shape) ** 2 * 4 if task.preprocessing == "zca" else 0
        networks = 4 * self.weight_bytes  # weights, gradients, momentum, and a teacher's
        return Cost(
            flops=passes * self.multiply_adds,
            step_flops=step * ALL_GRADIENTS * self.multiply_adds,
            images=max(step, most, 1),
            whole=max(step, 1) if self.depends_on_batch else 1,
            image_bytes=self.activations * (2 if task.precision == "bf16" else 4),
            fixed_bytes=fixed_bytes + whitening + networks,
        )


@functools.lru_cache(maxsize=64)
def size_of(model: ModelConfig, shape: Shape, num_classes: int) -> NetworkSize:
    """The size of a network, by one forward pass of a tiny batch on the CPU. Raises ConfigError as `build` does."""
    network, images = build(model, shape, num_classes).train(), torch.zeros(_BATCH, *shape)
    counter = _Counter(network)
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(counter.keep, lambda kept: kept):
        network(images)
    # Torch's own flop counter, like its meta device, loads the compiler first: a second on every start. It is asked
    # where weights are used in other ways than by layers that a hook can count.
    complete = counter.layers == {id(p) for p in network.parameters() if p.ndim > 1}
    return NetworkSize(
        multiply_adds=(counter.multiply_adds if complete else _flops(network, images) / 2) / _BATCH,
        activations=counter.elements / _BATCH,
        weights=sum(value.numel() for value in network.state_dict().values()),
        depends_on_batch=habits_of(model, shape, num_classes).depends_on_batch,
    )


def _flops(network: nn.Module, images: Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        network(images)
    return float(counter.get_total_flops())


def state_shapes(model: ModelConfig, shape: Shape, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights and buffers, without allocating them."""
    with torch.device("meta"):
        network = build(model, shape, num_classes)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


class _Counter:
    """Counts multiply-adds of layers with weights, and what autograd keeps of a forward pass (weights excepted)."""

    def __init__(self, network: nn.Module) -> None:
        self.multiply_adds = 0
        self.layers: set[int] = set()  # the weights, by identity, of the layers that were counted
        self._weights = {p.data_ptr() for p in network.parameters()}
        self._kept: dict[int, Tensor] = {}  # by address; held, so that no address is given to another tensor
        for layer in network.modules():
            if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                layer.register_forward_hook(self._count)

    def _count(self, layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        self.multiply_adds += output.numel() * weight[0].numel()
        self.layers.add(id(weight))

    def keep(self, tensor: Tensor) -> Tensor:
        """Count one tensor that autograd keeps."""
        if tensor.is_floating_point() and tensor.data_ptr() not in self._weights:
            self._kept[tensor.data_ptr()] = tensor.detach()
        return tensor

    @property
    def elements(self) -> int:
        """What is kept, and two gradients of the largest of it, which the way back holds at once."""
        sizes = [tensor.numel() for tensor in self._kept.values()]
        return sum(sizes) + 2 * max(sizes, default=0)
