"""How long a bucket lasts: the usual pace, and a range that was measured."""

from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.ledger import runway

TODAY = date(2027, 2, 10)
END = date(2027, 12, 31)


def daily(units, days=56):
    return {TODAY - timedelta(days=number): units for number in range(1, days + 1)}


def test_an_even_pace_has_no_range():
    found = runway.of_bucket(daily(10), left=300, today=TODAY, ends_on=END)
    assert found.earliest == found.expected == found.latest == TODAY + timedelta(days=30)
    assert (found.pace, found.left_units) == (10, 0)


def test_a_last_unit_that_is_begun_takes_its_day():
    assert runway.of_bucket(daily(10), left=301, today=TODAY, ends_on=END).expected == TODAY + timedelta(days=31)


def test_the_range_is_the_busiest_and_the_quietest_week():
    used = daily(10) | {TODAY - timedelta(days=number): 20 for number in range(1, 8)}
    used |= {TODAY - timedelta(days=number): 5 for number in range(50, 57)}
    found = runway.of_bucket(used, left=300, today=TODAY, ends_on=END)
    assert (found.fastest, found.pace, found.slowest) == (20, Fraction(25, 2), 5)
    assert found.earliest == TODAY + timedelta(days=15)
    assert found.expected == TODAY + timedelta(days=24)
    assert found.latest == TODAY + timedelta(days=60)


def test_what_lasts_beyond_the_term_says_what_would_be_left():
    found = runway.of_bucket(daily(1), left=500, today=TODAY, ends_on=TODAY + timedelta(days=100))
    assert (found.expected, found.left_units) == (None, 400)
    assert runway.of_bucket(daily(1), left=100, today=TODAY, ends_on=TODAY + timedelta(days=100)).expected is not None


@pytest.mark.parametrize("used", [{}, daily(5, days=6), {TODAY: 50}, daily(0)], ids=["none", "a few", "today", "zero"])
def test_before_a_week_of_days_nothing_is_said(used):
    assert runway.of_bucket(used, left=10, today=TODAY, ends_on=END) is None


def test_an_empty_bucket_has_no_runway():
    assert runway.of_bucket(daily(5), left=0, today=TODAY, ends_on=END) is None


@given(st.lists(st.integers(-20, 200), min_size=8, max_size=90), st.integers(1, 10_000), st.integers(0, 400))
def test_the_range_holds_the_expected(units, left, days):
    used = {TODAY - timedelta(days=number): each for number, each in enumerate(units, start=1)}
    found = runway.of_bucket(used, left=left, today=TODAY, ends_on=TODAY + timedelta(days=days))
    if found is not None:
        far = date.max
        assert (found.earliest or far) <= (found.expected or far) <= (found.latest or far)
        assert 0 <= found.slowest <= found.pace <= found.fastest
        assert 0 <= found.left_units <= left


def test_a_week_of_days_is_enough_and_of_today_nothing_counts():
    week = daily(2, days=7)
    assert runway.of_bucket(week, left=10, today=TODAY, ends_on=END).pace == 2
    assert runway.of_bucket(week | {TODAY: 900}, left=10, today=TODAY, ends_on=END).fastest == 2


def test_the_range_looks_back_eight_weeks_and_no_further():
    busy = {TODAY - timedelta(days=57): 700}
    found = runway.of_bucket(daily(10) | busy, left=300, today=TODAY, ends_on=END)
    assert (found.fastest, found.slowest) == (10, 10)
    busy = {TODAY - timedelta(days=56): 80}
    assert runway.of_bucket(daily(10) | busy, left=300, today=TODAY, ends_on=END).fastest == 20


def test_on_the_last_day_and_after_it_all_that_is_left_will_be_left():
    for ends_on in (TODAY, TODAY - timedelta(days=3)):
        found = runway.of_bucket(daily(10), left=300, today=TODAY, ends_on=ends_on)
        assert (found.expected, found.left_units) == (None, 300)


def test_the_last_unit_has_its_day():
    assert runway.of_bucket(daily(1), left=1, today=TODAY, ends_on=END).expected == TODAY + timedelta(days=1)


def test_where_more_came_back_than_was_used_there_is_no_pace():
    found = runway.of_bucket(daily(-1), left=10, today=TODAY, ends_on=END)
    assert (found.pace, found.slowest, found.expected, found.left_units) == (0, 0, None, 10)


def test_a_day_without_an_entry_is_one_without_use():
    used = {TODAY - timedelta(days=8): 7, TODAY - timedelta(days=1): 9}
    assert runway.of_bucket(used, left=10, today=TODAY, ends_on=END).pace == 2
