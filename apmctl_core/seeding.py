"""All randomness flows from here: a stream is named by the seed and by what it is for.

Streams are derived, never shared, so that a stage draws the same numbers whatever ran before it. That is
what makes an interrupted run continue with the same draws, and an evaluation leave a run untouched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers, e.g. `Stream(seed).at("student", cycle)`."""

    seed: int
    purpose: tuple[str | int, ...] = ()

    def at(self, *purpose: str | int) -> Stream:
        """The stream of a part of what this one is for."""
        return Stream(self.seed, self.purpose + purpose)

    @property
    def number(self) -> int:
        """The 63-bit seed of this stream, for libraries that seed themselves."""
        text = "/".join(map(str, (self.seed, *self.purpose)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self) -> torch.Generator:
        """A new CPU generator at the stream's start; draws are made on the CPU so that they agree across devices."""
        return torch.Generator().manual_seed(self.number)

    def integer(self, below: int) -> int:
        """One number in [0, below)."""
        return int(torch.randint(below, (), generator=self.generator()))
