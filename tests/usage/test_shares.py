"""Amounts spread over calls by largest remainder: exact sums, whatever the calls are grouped by."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usage.shares import spread

_WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any)


@given(st.integers(-(10**13), 10**13), _WEIGHTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_i11_the_parts_add_up_and_none_is_a_unit_from_its_exact_share(target, weights):
    parts = spread(target, weights)
    whole = sum(weights)
    assert sum(parts) == target
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * whole - target * weight) < whole
        assert weight or not part
    assert spread(-target, weights) == [-part for part in parts]


def test_the_largest_remainders_get_what_is_left_over():
    assert spread(10, [1, 1, 1]) == [4, 3, 3]
    assert spread(100, [333, 333, 334]) == [33, 33, 34]
    assert spread(5, [0, 7]) == [0, 5]
    assert spread(0, [0, 0]) == [0, 0]


@pytest.mark.parametrize("weights", [[0, 0], [], [3, -1]])
def test_without_anything_that_could_bear_it_nothing_is_spread(weights):
    with pytest.raises(ValueError, match="bear"):
        spread(1, weights)
