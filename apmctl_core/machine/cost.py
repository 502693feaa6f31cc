"""What a piece of work asks of a machine, known before any of it is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Floating-point operations, memory beside what the process holds, and disk.

    `flops` of the whole, `step_flops` of one training step · `images` in the largest pass if nothing bounds it, each
    adding `image_bytes`, beside `fixed_bytes` · `whole` of them that no segment may divide (a batch whose statistics
    the network uses) · `disk_bytes` at the most, from the first state to the finished artifact · `networks` that do not
    depend on each other, of so many training `steps` in all.
    """

    flops: float = 0.0
    step_flops: float = 0.0
    images: int = 1
    whole: int = 1
    image_bytes: float = 0.0
    fixed_bytes: float = 0.0
    disk_bytes: int = 0
    networks: int = 1
    steps: int = 0

    @property
    def least_bytes(self) -> float:
        """Bytes of memory with the shortest segments."""
        return self.fixed_bytes + self.whole * self.image_bytes
