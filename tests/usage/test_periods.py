from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage import periods

ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
months = st.dates(date(2000, 1, 1), date(2100, 1, 1)).map(lambda day: day.replace(day=1))
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES).map(ZoneInfo)


@given(instants, zones)
def test_f45_every_instant_is_in_exactly_the_month_that_holds_it(instant, zone):
    month = periods.month_of(instant, zone)
    starts_at, ends_at = periods.bounds(month, zone)
    assert starts_at <= instant < ends_at


@given(months, zones)
def test_f45_months_follow_each_other_without_a_gap(month, zone):
    assert periods.bounds(month, zone)[1] == periods.bounds(periods.next_month(month), zone)[0]


@given(months, zones)
def test_f45_the_end_of_a_month_belongs_to_the_next(month, zone):
    starts_at, ends_at = periods.bounds(month, zone)
    assert periods.month_of(ends_at, zone) == periods.next_month(month)
    assert periods.month_of(ends_at - timedelta(microseconds=1), zone) == month
    assert periods.month_of(starts_at, zone) == month
    assert periods.month_of(starts_at - timedelta(microseconds=1), zone) == periods.previous_month(month)


@given(months)
def test_the_month_before_the_next_is_the_month(month):
    assert periods.previous_month(periods.next_month(month)) == month


@pytest.mark.parametrize(
    ("zone", "month", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 1), 31 * 24 - 1),
        ("Europe/Berlin", date(2026, 10, 1), 31 * 24 + 1),
        ("America/New_York", date(2026, 11, 1), 30 * 24 + 1),
        ("UTC", date(2028, 2, 1), 29 * 24),
        ("UTC", date(2027, 2, 1), 28 * 24),
        ("Asia/Kolkata", date(2026, 10, 1), 31 * 24),
    ],
)
def test_f45_a_month_is_as_long_as_its_clocks_say(zone, month, hours):
    starts_at, ends_at = periods.bounds(month, ZoneInfo(zone))
    assert ends_at - starts_at == timedelta(hours=hours)


def test_f45_the_29th_of_february_is_the_last_day_of_its_month():
    instant = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert periods.month_of(instant, UTC) == date(2028, 2, 1)
    assert periods.month_of(instant + timedelta(seconds=1), UTC) == date(2028, 3, 1)


def test_f45_a_half_hour_zone_begins_its_month_at_half_past():
    starts_at, _ = periods.bounds(date(2026, 11, 1), ZoneInfo("Asia/Kolkata"))
    assert starts_at == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)


def test_f45_where_midnight_does_not_exist_the_day_begins_when_the_clocks_jump():
    zone = ZoneInfo("America/Sao_Paulo")
    starts_at = periods.starts_at(date(2018, 11, 4), zone)
    assert starts_at == datetime(2018, 11, 4, 3, tzinfo=UTC)
    assert periods.day_of(starts_at, zone) == date(2018, 11, 4)
    assert periods.day_of(starts_at - timedelta(microseconds=1), zone) == date(2018, 11, 3)


def test_days_begin_with_a_quarter_of_an_hour_everywhere():
    """Totals of days are read from quarter hours, which holds for every zone of the database since 2000."""
    for name in sorted(available_timezones()):
        for day in (date(2016, 1, 1), date(2026, 3, 29), date(2026, 7, 1), date(2026, 11, 1)):
            instant = periods.starts_at(day, ZoneInfo(name))
            assert (instant.minute % 15, instant.second) == (0, 0), name


@pytest.mark.parametrize(
    ("instant", "months", "zone", "later"),
    [
        ("2027-02-10T09:30", 12, "UTC", "2028-02-10T09:30"),
        ("2028-02-29T12:00", 12, "UTC", "2029-02-28T12:00"),
        ("2027-01-31T12:00", 1, "UTC", "2027-02-28T12:00"),
        ("2027-11-30T12:00", 3, "UTC", "2028-02-29T12:00"),
        ("2027-12-31T12:00", 1, "UTC", "2028-01-31T12:00"),
        ("2027-01-15T12:00", 6, "America/New_York", "2027-07-15T11:00"),  # summer time: the same hour there
        ("2027-01-01T02:00", 2, "America/New_York", "2027-03-01T02:00"),  # 31 December there: 28 February
    ],
)
def test_f45_f50_a_term_ends_at_the_same_hour_of_the_same_day_there(instant, months, zone, later):
    found = periods.months_after(datetime.fromisoformat(instant).replace(tzinfo=UTC), months, ZoneInfo(zone))
    assert found == datetime.fromisoformat(later).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "before"),
    [
        (("2026-11-01", "2026-11-30"), ("2026-10-01", "2026-10-31")),
        (("2026-11-01", "2026-11-21"), ("2026-10-01", "2026-10-21")),
        (("2026-10-01", "2026-10-31"), ("2026-09-01", "2026-09-30")),
        (("2026-03-01", "2026-03-30"), ("2026-02-01", "2026-02-28")),
        (("2026-02-01", "2026-02-28"), ("2026-01-01", "2026-01-31")),
        (("2026-01-01", "2026-01-05"), ("2025-12-01", "2025-12-05")),
        (("2026-11-05", "2026-11-11"), ("2026-10-29", "2026-11-04")),
        (("2026-10-23", "2026-11-21"), ("2026-09-23", "2026-10-22")),
        (("2026-10-01", "2026-12-31"), ("2026-07-01", "2026-09-30")),
        (("2026-11-21", "2026-11-21"), ("2026-11-20", "2026-11-20")),
    ],
)
def test_days_are_comparable_with_those_of_the_month_before_or_with_as_many_before(days, before):
    found = periods.comparable(*map(date.fromisoformat, days))
    assert found == tuple(map(date.fromisoformat, before))
