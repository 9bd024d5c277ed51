from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from django.http import QueryDict

from billing_portal.portal import date_ranges
from billing_portal.portal.date_ranges import Days

TODAY = date(2026, 11, 21)


def asked(text):
    return date_ranges.of(QueryDict(text), TODAY)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("", Days(date(2026, 10, 23), TODAY, "30d")),
        ("days=month", Days(date(2026, 11, 1), TODAY, "month")),
        ("days=last-month", Days(date(2026, 10, 1), date(2026, 10, 31), "last-month")),
        ("days=nonsense", Days(date(2026, 10, 23), TODAY, "30d")),
        ("from=2026-11-02&to=2026-11-03", Days(date(2026, 11, 2), date(2026, 11, 3))),
        ("from=2026-11-09&to=2026-11-03", Days(date(2026, 11, 3), date(2026, 11, 3))),
        ("to=2026-11-30", Days(date(2026, 10, 23), TODAY)),
        ("from=1999-01-01", Days(date(2025, 11, 20), TODAY)),
        ("from=yesterday&to=2026-99-01", Days(date(2026, 10, 23), TODAY, "30d")),
    ],
)
def test_an_address_names_days(text, days):
    assert asked(text) == days


def test_a_name_stays_while_its_dates_are_those_that_the_form_showed():
    assert asked("days=7d&from=2026-11-15&to=2026-11-21").name == "7d"
    changed = asked("days=7d&from=2026-11-14&to=2026-11-21")
    assert (changed.name, changed.starts_on) == ("", date(2026, 11, 14))


def test_days_are_compared_with_those_before_them_or_with_what_was_asked():
    days = Days(date(2026, 11, 1), TODAY)
    assert date_ranges.compared(QueryDict(""), days) == ("before", Days(date(2026, 10, 1), date(2026, 10, 21)))


def test_a_year_before_29_february_is_the_28th():
    assert date_ranges.a_year_before(Days(date(2028, 2, 29), date(2028, 2, 29))).starts_on == date(2027, 2, 28)


def test_days_are_those_of_the_zone():
    mumbai = ZoneInfo("Asia/Kolkata")
    days = Days(date(2026, 10, 10), date(2026, 10, 10))
    assert date_ranges.starts_at(days, mumbai) == datetime(2026, 10, 9, 18, 30, tzinfo=UTC)
    assert date_ranges.ends_at(days, mumbai) == datetime(2026, 10, 10, 18, 30, tzinfo=UTC)
