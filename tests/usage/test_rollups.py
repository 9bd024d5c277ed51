import random
from datetime import UTC, date, datetime, timedelta

import pytest

from billing_portal.ledger import accounts, settlement
from tests.charged import all_charges
from tests.usage.conftest import call_object
from usage import periods, rollup_upkeep, rollups
from usage.models import DailyAgentUsage, DailyUsage, HourlyUsage

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)


def some_calls(count, *, organization="acme", seed=1):
    """Return calls over three days around the turn of the month, with every kind of product."""
    rng = random.Random(seed)
    first = datetime(2026, 9, 30, tzinfo=UTC)
    return [
        call_object(
            f"call_{number}",
            organization=organization,
            start_timestamp=(first + timedelta(seconds=rng.randrange(3 * 86_400))).isoformat(),
            end_timestamp=...,
            duration_ms=rng.choice([0, 1, 59_999, rng.randrange(10**6)]),
            add_ons=rng.sample(["knowledge_base", "pii_removal", "branded_call"], k=rng.randrange(4)),
            llm_token_usage={"average": rng.randrange(9_000), "num_requests": rng.randrange(5)},
        )
        for number in range(count)
    ]


def kept(organization):
    days = DailyUsage.objects.filter(organization=organization)
    agents = DailyAgentUsage.objects.filter(organization=organization)
    hours = HourlyUsage.objects.filter(organization=organization)
    sums = ("calls", "duration_ms", "micros")
    return (
        sorted(days.values_list("billed_month", "date", "mix_id", *sums, "llm_tokens", "line_calls", "line_micros")),
        sorted(agents.values_list("date", "agent__reference", *sums)),
        sorted(hours.values_list("hour_at", *sums)),
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"])
def test_i09_what_was_folded_equals_what_is_rebuilt(priced, make_organization, record, settle, zone):
    organization = make_organization("acme", time_zone=zone)
    record(*some_calls(150))
    settle(organization)
    assert rollup_upkeep.verify(organization.pk) == []
    live = kept(organization)
    rollup_upkeep.rebuild(organization.pk)
    assert kept(organization) == live
    assert rollup_upkeep.verify(organization.pk) == []


@pytest.mark.parametrize("size", [1, 7, 40])
def test_i08_the_size_of_batches_changes_nothing(priced, acme, other, record, settle, now, size):
    for organization in ("acme", "other"):
        record(*some_calls(80, organization=organization))
    settle(acme)
    accounts.open(organization=other, now=now)
    while settlement.settle(other.pk, now=now, limit=size):
        pass
    assert kept(other) == kept(acme)


def test_i07_the_order_in_which_calls_arrive_changes_no_total(priced, acme, other, record, settle):
    items = some_calls(60)
    record(*items)
    settle(acme)
    for item in reversed(items):
        record({**item, "organization": "other"})
        settle(other)
    assert [row[1:] for row in kept(other)[0]] == [row[1:] for row in kept(acme)[0]]
    assert kept(other)[1:] == kept(acme)[1:]


def test_rollups_are_the_sums_of_settled_charges_alone(priced, acme, record, settle):
    record(*some_calls(40))
    settle(acme)
    settled = sum(charge.amount_micros for charge in all_charges())
    record(call_object("waiting"))
    span = {"starts_on": date(2000, 1, 1), "ends_on": date(2100, 1, 1)}
    assert rollups.total(acme.pk, **span).micros == settled
    assert rollups.total(acme.pk, **span).calls == 40
    days = rollups.by_day(acme.pk, starts_on=date(2000, 1, 1), ends_on=date(2100, 1, 1))
    assert sum(days.values()) == settled
    products = rollups.by_product(acme.pk, starts_on=date(2000, 1, 1), ends_on=date(2100, 1, 1))
    assert sum(product.micros for product in products) == settled
    assert [product.micros for product in products] == sorted((p.micros for p in products), reverse=True)


def test_a_changed_cell_is_named(priced, acme, record, settle):
    record(*some_calls(5))
    settle(acme)
    cell = DailyUsage.objects.filter(organization=acme).first()
    DailyUsage.objects.filter(pk=cell.pk).update(micros=cell.micros + 1)
    HourlyUsage.objects.filter(organization=acme).first().delete()
    found = rollup_upkeep.verify(acme.pk)
    assert len(found) == 3
    assert any(line.startswith(f"usage_dailyusage is {acme.pk} {cell.billed_month} {cell.date}") for line in found)
    rollup_upkeep.rebuild(acme.pk)
    assert rollup_upkeep.verify(acme.pk) == []


def test_f45_totals_of_a_day_in_a_half_hour_zone_hold_exactly_its_calls(priced, make_organization, record, settle):
    organization = make_organization("acme", time_zone="Asia/Kathmandu")
    begins = periods.starts_at(date(2026, 10, 10), organization.zone)
    assert begins.minute == 15
    times = [begins - timedelta(milliseconds=1), begins, begins + timedelta(days=1, milliseconds=-1)]
    times.append(begins + timedelta(days=1))
    record(
        *[
            call_object(f"c{n}", start_timestamp=at.isoformat(), end_timestamp=..., duration_ms=1000)
            for n, at in enumerate(times)
        ]
    )
    settle(organization)
    day = date(2026, 10, 10)
    ends = periods.starts_at(day + timedelta(days=1), organization.zone)
    total = rollups.total(organization.pk, starts_on=day, ends_on=day)
    hours = rollups.by_hour(organization.pk, starts_at=begins, ends_at=ends)
    assert [hour.hour_at for hour in hours] == [begins, ends - timedelta(hours=1)]
    by_day = rollups.by_day(organization.pk, starts_on=day, ends_on=day)
    assert (total.calls, total.duration_ms) == (2, 2000)
    assert total.micros == sum(by_day.values())


def test_i16_totals_of_one_organization_hold_nothing_of_another(priced, acme, other, record, settle):
    record(call_object(), *some_calls(5, organization="other"))
    settle(acme)
    settle(other)
    assert rollups.component_totals(acme.pk, OCTOBER) == {"llm": 9_700, "platform": 8_083, "voice": 113_167}
    assert sum(rollups.component_totals(acme.pk, date(2026, 9, 1)).values()) == 0


def test_without_usage_all_totals_are_zero(acme):
    span = {"starts_on": date(2000, 1, 1), "ends_on": date(2100, 1, 1)}
    assert rollups.total(acme.pk, **span) == rollups.Total(0, 0, 0)
    assert rollups.by_day(acme.pk, starts_on=OCTOBER, ends_on=OCTOBER) == {}
    assert rollups.component_totals(acme.pk, OCTOBER) == {}
