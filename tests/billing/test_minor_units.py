"""Micros to Stripe's minor units and back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.billing import minor_units

currencies = st.sampled_from(["USD", "EUR", "JPY", "KRW", "KWD", "TND", "ISK", "UGX", "HUF"])
amounts = st.integers(min_value=-(10**15), max_value=10**15)


@given(minor=amounts, currency=currencies)
def test_f42_minor_units_survive_the_way_to_micros_and_back(minor: int, currency: str) -> None:
    assert minor_units.from_micros(minor_units.to_micros(minor, currency), currency) == minor


@given(micros=amounts, currency=currencies)
def test_i11_rounding_moves_an_amount_by_at_most_half_a_minor_unit(micros: int, currency: str) -> None:
    rounded = minor_units.to_micros(minor_units.from_micros(micros, currency), currency)
    assert 2 * abs(rounded - micros) <= minor_units.micros_per_unit(currency)


@given(
    micros=st.integers(min_value=0, max_value=10**15), more=st.integers(min_value=0, max_value=10**9), code=currencies
)
def test_i17_more_micros_are_never_fewer_minor_units(micros: int, more: int, code: str) -> None:
    assert minor_units.from_micros(micros + more, code) >= minor_units.from_micros(micros, code)


@pytest.mark.parametrize(
    ("micros", "currency", "minor"),
    [
        (4_999, "USD", 0),
        (5_000, "USD", 1),
        (152_150, "USD", 15),
        (499_999, "JPY", 0),
        (500_000, "JPY", 1),
        (499, "KWD", 0),
        (500, "KWD", 1),
        (1_000_000, "ISK", 100),
    ],
)
def test_micros_are_rounded_half_up(micros: int, currency: str, minor: int) -> None:
    assert minor_units.from_micros(micros, currency) == minor


@pytest.mark.parametrize(("currency", "price"), [("USD", "0.0001"), ("JPY", "0.000001"), ("KWD", "0.001")])
def test_one_micro_is_priced_exactly(currency: str, price: str) -> None:
    assert minor_units.unit_price(currency) == Decimal(price)


@given(micros=st.integers(min_value=0, max_value=10**15 - 1), currency=currencies)
def test_stripe_rounds_a_line_as_we_do(micros: int, currency: str) -> None:
    from decimal import ROUND_HALF_UP

    line = (micros * minor_units.unit_price(currency)).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    assert line == minor_units.from_micros(micros, currency)


@pytest.mark.parametrize(
    ("minor", "currency", "chargeable"),
    [
        (5, "USD", True),
        (5_124, "KWD", False),
        (5_120, "KWD", True),
        (501, "ISK", False),
        (500, "UGX", True),
        (7, "JPY", True),
    ],
)
def test_amounts_that_cards_cannot_be_charged_are_recognized(minor: int, currency: str, chargeable: bool) -> None:
    assert minor_units.is_chargeable(minor, currency) is chargeable
