"""Which of Stripe's periods carries a month."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.billing import cycles

seconds = st.integers(min_value=1_577_836_800, max_value=2_051_222_400)
instants = seconds.map(lambda second: datetime.fromtimestamp(second, UTC))


@given(instant=instants)
def test_f45_every_instant_is_in_exactly_one_period(instant: datetime) -> None:
    starts_at, ends_at = cycles.bounds(cycles.month_at(instant))
    assert starts_at <= instant < ends_at


@given(instant=instants)
def test_the_month_ended_last_lies_just_before_the_present_one(instant: datetime) -> None:
    _, ends_at = cycles.bounds(cycles.month_ended_by(instant))
    assert ends_at == cycles.bounds(cycles.month_at(instant))[0]


@pytest.mark.parametrize(
    ("period_end", "month"),
    [
        (datetime(2026, 11, 1, 12, tzinfo=UTC), date(2026, 10, 1)),
        (datetime(2027, 1, 1, 12, tzinfo=UTC), date(2026, 12, 1)),
        (datetime(2028, 3, 1, 12, tzinfo=UTC), date(2028, 2, 1)),
    ],
)
def test_a_cycle_invoice_bills_the_month_before_its_draft(period_end: datetime, month: date) -> None:
    assert cycles.month_ending_at(period_end) == month


def test_no_zone_is_still_in_the_month_when_its_period_ends() -> None:
    _, ends_at = cycles.bounds(date(2026, 10, 1))
    last_zone_midnight = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=12)  # UTC−12
    assert last_zone_midnight <= ends_at
