from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.money import CurrencyMismatch, Money, round_half_up, round_up

whole = st.integers(-(10**24), 10**24)
positive = st.integers(1, 10**12)


@given(whole, positive)
def test_rounding_is_off_by_half_a_micro_at_most(numerator, denominator):
    assert abs(round_half_up(numerator, denominator) - Fraction(numerator, denominator)) <= Fraction(1, 2)


@given(whole, positive)
def test_what_is_given_back_rounds_as_what_was_charged(numerator, denominator):
    assert round_half_up(-numerator, denominator) == -round_half_up(numerator, denominator)


@given(whole, whole, positive)
def test_rounding_never_turns_the_order_around(one, two, denominator):
    low, high = sorted((one, two))
    assert round_half_up(low, denominator) <= round_half_up(high, denominator)


@given(whole, positive)
def test_whole_numbers_stay_as_they_are(number, denominator):
    assert round_half_up(number * denominator, denominator) == number
    assert round_up(number * denominator, denominator) == number


@given(whole, positive, st.integers(1, 1000))
def test_a_fraction_and_its_multiple_round_alike(numerator, denominator, factor):
    assert round_half_up(numerator * factor, denominator * factor) == round_half_up(numerator, denominator)


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(5, 2, 3), (-5, 2, -3), (1, 2, 1), (-1, 2, -1), (1, 3, 0), (2, 3, 1), (0, 7, 0), (10**30 + 1, 2, 5 * 10**29 + 1)],
)
def test_exactly_half_goes_away_from_zero(numerator, denominator, rounded):
    assert round_half_up(numerator, denominator) == rounded


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_denominator_must_be_positive(denominator):
    with pytest.raises(ValueError, match="positive"):
        round_half_up(1, denominator)


@given(whole, positive)
def test_quantities_are_rounded_up_by_less_than_one(numerator, denominator):
    assert 0 <= round_up(numerator, denominator) - Fraction(numerator, denominator) < 1


def test_money_of_one_currency_adds_up():
    assert Money(3, "USD") + Money(4, "USD") - Money(8, "USD") == -Money(1, "USD")
    assert Money(3, "USD") < Money(4, "USD")
    assert not Money(0, "USD")


@pytest.mark.parametrize("operation", [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a < b, lambda a, b: a <= b])
def test_f41_currencies_never_mix(operation):
    with pytest.raises(CurrencyMismatch):
        operation(Money(1, "USD"), Money(1, "EUR"))
