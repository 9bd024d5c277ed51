from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from billing_portal.local.bench import load, rows
from tests.charged import all_charges
from tests.usage.conftest import call_object
from usage import calls, partitions, periods, rollups
from usage.models import Call, CallKey

SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)


def at(month, **fields):
    return call_object(f"call_{month:%m}", start_timestamp=f"{month}T12:00:00Z", end_timestamp=..., **fields)


def table_of(call_id):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM usage_call WHERE call_id = %s", [call_id])
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_a_call_lies_in_the_table_of_its_month(priced, acme, record):
    record(at(SEPTEMBER), at(OCTOBER))
    assert (table_of("call_09"), table_of("call_10")) == ("usage_call_202609", "usage_call_202610")


@pytest.mark.django_db
def test_months_are_attached_ahead_and_again_without_effect(now):
    for _ in range(2):
        partitions.attach_ahead(now, months=3)
        assert set(partitions.months()) >= {OCTOBER, date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)}


@pytest.mark.django_db(transaction=True)
def test_f49_the_ids_of_a_detached_month_stay_taken_and_its_sums_stay(priced, acme, record, settle, now):
    record(at(SEPTEMBER), at(OCTOBER))
    settle(acme)
    year = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31)}
    before = rollups.total(acme.pk, **year)
    assert {"usage_call_202609", "usage_calldetail_202609"} <= set(partitions.archive(now, months_kept=0))
    try:
        assert [row.call_id for row in calls.page(acme.pk, calls.Filters())[0]] == ["call_10"]
        assert CallKey.objects.count() == 2
        assert rollups.total(acme.pk, **year) == before
        assert [answer.status for answer in record(at(SEPTEMBER), at(SEPTEMBER, duration_ms=1))] == [
            "duplicate",
            "conflict",
        ]
    finally:
        record(call_object("late", start_timestamp="2026-09-03T00:00:00Z", end_timestamp=...))
    assert Call.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_month_in_which_a_call_waits_is_not_detached(priced, acme, record, now):
    record(at(SEPTEMBER), at(date(2026, 8, 1), products=["gpt_9"]))
    archived = set(partitions.archive(now, months_kept=0))
    assert archived.isdisjoint({"usage_call_202609", "usage_call_202608"})
    assert set(partitions.months()) >= {SEPTEMBER, date(2026, 8, 1)}


@pytest.mark.django_db
def test_a_year_typed_wrong_makes_no_table(priced, acme, record):
    (answer,) = record(call_object(start_timestamp="1970-01-01T00:00:01Z", end_timestamp=...))
    assert (answer.status, answer.field) == ("rejected", "start_timestamp")


@pytest.mark.django_db
def test_i12_a_call_is_priced_once_and_then_kept(priced, acme, record):
    record(call_object(products=["gpt_9"]), call_object("call_2"))
    for change in ({"duration_ms": 1}, {"call_id": "x"}, {"amount_micros": 1, "duration_ms": 1}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Call.objects.filter(call_id="call_1").update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        Call.objects.filter(call_id="call_2").update(amount_micros=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"]
)
def test_f45_the_database_and_we_agree_on_days_and_hours(make_organization, zone):
    """Settlement cuts months in Python, and the rollups cut days in SQL: one clock change apart, they would differ."""
    tz = make_organization("acme", time_zone=zone).zone
    first = datetime(2024, 1, 1, tzinfo=UTC)
    instants = [first + timedelta(minutes=30 * step) for step in range(48 * 366 * 4)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (i AT TIME ZONE %s)::date, date_trunc('hour', i, %s)"
            " FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS u (i, n) ORDER BY n",
            [zone, zone, instants],
        )
        for instant, (day, hour_at) in zip(instants, cursor.fetchall(), strict=True):
            assert day == periods.day_of(instant, tz)
            assert timedelta(0) <= instant - hour_at < timedelta(hours=2)


@pytest.mark.django_db
def test_i08_a_range_is_cut_where_a_settlement_ends(priced, acme, record, settle):
    record(*[call_object(f"c{n}", start_timestamp=1_790_000_000_000 + n, end_timestamp=...) for n in range(7)])
    settle(acme)
    assert [charge.sequence for charge in all_charges()] == list(range(1, 8))


@pytest.mark.django_db(transaction=True)
def test_indexes_of_a_month_that_is_over_are_compacted_once_and_keep_serving():
    organizations = load.organizations(200)
    rows.hold(organizations, 30_000)
    with connection.cursor() as cursor:
        # Else it is a matter of luck whether, and how far on the way, autovacuum has counted them.
        cursor.execute("ANALYZE usage_call, usage_calldetail")
    name = f"usage_call_{load.MONTH:%Y%m}_pkey"
    over = load.ENDS_AT + partitions.QUIET
    assert partitions.compact(over - timedelta(seconds=1)) == []
    loose = size_of(name)
    assert name in partitions.compact(over)
    assert size_of(name) < 0.8 * loose
    assert partitions.compact(over) == []
    assert sum(len(calls.page(each.pk, calls.Filters())[0]) for each in organizations[:5]) == 5 * 50


def size_of(relation):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size(%s::regclass)", [relation])
        return cursor.fetchone()[0]
