"""Three rounds end at the numbers that lie in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import Shell
from tests.fixtures.values import three_rounds


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    work: Path = tmp_path_factory.mktemp("values")
    return three_rounds.values(Shell(work / "store"), work)


@pytest.mark.parametrize("name", ["images", "logits", "student_loss", "match_loss"])
def test_three_rounds_end_at_the_stored_values(computed: dict[str, torch.Tensor], name: str) -> None:
    stored = load_file(three_rounds.STORED)[name]
    # Values are near 1, one rounding of float32 is 6e-8; another order of sums costs some dozens of them.
    torch.testing.assert_close(computed[name], stored, atol=1e-5, rtol=0)


def test_the_stored_values_come_of_every_round() -> None:
    stored = load_file(three_rounds.STORED)
    assert (stored["images"].shape, stored["logits"].shape) == ((6, 3, 8, 8), (6, 3))
    assert stored["match_loss"].shape == stored["student_loss"].shape == (2,)
    assert stored["match_loss"].abs().min() > 1e-3
