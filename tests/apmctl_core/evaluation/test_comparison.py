"""The difference of two sets: its interval against values computed by hand, and what it says."""

import pytest

from apmctl_core.evaluation.comparison import difference

FIRST = (0.50, 0.56, 0.56)


def test_as_many_networks_are_pairs() -> None:
    said = difference((0.62, 0.64, 0.66), FIRST)
    # 0.12, 0.08, 0.10: deviation 0.02, t of 2 degrees of freedom 4.30265.
    reach = 4.30265 * 0.02 / 3**0.5
    assert said.value == pytest.approx(0.1)
    assert said.paired
    assert (said.verdict.low, said.verdict.high) == pytest.approx((0.1 - reach, 0.1 + reach), abs=1e-6)
    assert said.verdict.name == "above"


def test_other_numbers_of_networks_are_not() -> None:
    said = difference((0.60, 0.64), FIRST)
    # Variances of the means 0.0008/2 and 0.0012/3, so 2 x 0.0004; 0.0008^2 / (0.0004^2/1 + 0.0004^2/2) = 2.67 degrees
    # of freedom, rounded down to 2.
    reach = 4.30265 * 0.0008**0.5
    assert said.value == pytest.approx(0.08)
    assert not said.paired
    assert (said.verdict.low, said.verdict.high) == pytest.approx((0.08 - reach, 0.08 + reach), abs=1e-6)
    assert said.verdict.name == "noise"


@pytest.mark.parametrize(
    ("own", "first", "name"),
    [
        ((0.6, 0.7, 0.8), (0.61, 0.71, 0.81), "below"),  # whatever the networks have in common
        ((0.61, 0.71, 0.81), (0.6, 0.7, 0.8), "above"),
        ((0.6, 0.7, 0.8), (0.7, 0.6, 0.8), "noise"),
        ((0.6,), (0.1,), "unknown"),
        ((0.6,), (0.1, 0.1), "unknown"),
    ],
)
def test_what_is_said_of_a_difference(own: tuple[float, ...], first: tuple[float, ...], name: str) -> None:
    said = difference(own, first).verdict
    assert said.name == name
    assert (said.low is None) == (name == "unknown")
    assert ("the first set" in said.sentence) == (name in ("below", "noise"))
