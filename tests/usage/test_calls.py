import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.usage.conftest import call_object
from usage import calls
from usage.calls import Filters, Order
from usage.models import Call

pytestmark = pytest.mark.django_db
START = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def hundred(priced, acme, other, record):
    """A hundred calls that start at seven instants only, and as many of another organization."""
    rng = random.Random(1)
    items = [
        call_object(
            f"call_{number:03}",
            start_timestamp=(START + timedelta(hours=rng.randrange(7))).isoformat(),
            end_timestamp=...,
            direction=rng.choice(["inbound", "outbound"]),
            agent_id=rng.choice(["agent_1", "agent_2"]),
            call_status=rng.choice(["ended", "error"]),
            products=rng.sample(["platform", "gpt_4o", "knowledge_base"], k=2),
        )
        for number in range(100)
    ]
    record(*items, *[{**item, "organization": "other"} for item in items])
    return {item["call_id"]: item for item in items}


def every(organization, filters, limit, order=Order.NEWEST):
    found, after = [], None
    while True:
        page, after = calls.page(organization.pk, filters, order=order, after=after, limit=limit)
        assert len(page) <= limit
        found += page
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 10, 99, 100, 1000])
def test_pages_reach_every_call_exactly_once_also_where_many_start_at_once(hundred, acme, limit):
    found = every(acme, Filters(), limit)
    assert sorted(call.call_id for call in found) == sorted(hundred)
    keys = [(call.started_at, call.id) for call in found]
    assert keys == sorted(keys, reverse=True)


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize(
    "filters", [Filters(), Filters(product="gpt_4o", starts_at=START, ends_at=START + timedelta(hours=5))]
)
def test_the_oldest_first_is_the_newest_first_turned_round(hundred, acme, filters, limit):
    newest = [call.id for call in every(acme, filters, limit)]
    assert [call.id for call in every(acme, filters, limit, Order.OLDEST)] == newest[::-1]
    assert newest


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("order", [Order.DEAREST, Order.LONGEST])
@pytest.mark.parametrize("filters", [Filters(), Filters(agent_id="agent_2", ends_at=START + timedelta(hours=5))])
def test_the_dearest_and_the_longest_come_first_on_every_page_and_ties_are_broken(
    priced, acme, other, record, filters, order, limit
):
    rng = random.Random(2)
    for name in ("acme", "other"):
        items = [
            call_object(
                f"call_{number}",
                organization=name,
                start_timestamp=(START + timedelta(hours=rng.randrange(7))).isoformat(),
                end_timestamp=...,
                agent_id=rng.choice(["agent_1", "agent_2"]),
                duration_ms=rng.choice([0, 1_000, 60_000, 61_000]),
                products=[rng.choice(["platform", "gpt_4o", "no_price"])],
            )
            for number in range(40)
        ]
        record(*items)
    by_time = every(acme, filters, 1000)
    by_value = {Order.DEAREST: lambda call: -1 if call.amount_micros is None else call.amount_micros}
    value = by_value.get(order, lambda call: call.duration_ms)
    assert every(acme, filters, limit, order) == sorted(by_time, key=value, reverse=True)
    assert len({value(call) for call in by_time}) > 2


@pytest.mark.parametrize("filters", [Filters(), Filters(metadata_key="team", metadata_value="red")])
def test_too_many_calls_are_not_sorted_and_that_is_said(priced, acme, record, monkeypatch, filters):
    monkeypatch.setattr(calls, "SORTED_WITH_DETAILS" if filters.metadata_key else "SORTED", 4)
    record(*[call_object(f"call_{n}", metadata={"team": "red"}) for n in range(5)])
    with pytest.raises(calls.TooManyToSort) as refused:
        calls.page(acme.pk, filters, order=Order.LONGEST)
    assert refused.value.most == 4
    record(call_object("call_0", correction=True, revision=1, duration_ms=1, metadata={"team": "red"}))
    monkeypatch.setattr(calls, "SORTED_WITH_DETAILS" if filters.metadata_key else "SORTED", 6)
    assert len(every(acme, filters, 3, Order.LONGEST)) == 6


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        (Filters(product="gpt_4o"), lambda item: "gpt_4o" in item["products"]),
        (Filters(agent_id="agent_2"), lambda item: item["agent_id"] == "agent_2"),
        (Filters(status="error"), lambda item: item["call_status"] == "error"),
        (Filters(direction="outbound"), lambda item: item["direction"] == "outbound"),
        (Filters(call_id_prefix="call_04"), lambda item: item["call_id"].startswith("call_04")),
        (Filters(call_id_prefix="call%"), lambda item: False),
        (Filters(product="gpt_4"), lambda item: False),
        (Filters(product="' OR 1=1 --"), lambda item: False),
        (
            Filters(direction="inbound", status="ended", product="platform"),
            lambda item: (
                (item["direction"], item["call_status"]) == ("inbound", "ended") and "platform" in item["products"]
            ),
        ),
    ],
)
@pytest.mark.parametrize("limit", [5, 1000])
def test_filters_keep_what_they_say_on_every_page(hundred, acme, filters, holds, limit):
    wanted = sorted(call_id for call_id, item in hundred.items() if holds(item))
    assert sorted(call.call_id for call in every(acme, filters, limit)) == wanted


def test_a_span_is_half_open_on_every_page(hundred, acme):
    starts_at, ends_at = START + timedelta(hours=2), START + timedelta(hours=5)
    found = every(acme, Filters(starts_at=starts_at, ends_at=ends_at), 4)
    wanted = [
        call_id
        for call_id, item in hundred.items()
        if starts_at.isoformat() <= item["start_timestamp"] < ends_at.isoformat()
    ]
    assert sorted(call.call_id for call in found) == sorted(wanted)
    assert wanted


def test_a_call_that_arrives_between_two_pages_moves_none(hundred, acme, record):
    first, after = calls.page(acme.pk, Filters(), limit=50)
    record(call_object("call_new", start_timestamp="2026-10-15T00:00:00Z", end_timestamp=...))
    rest, _ = calls.page(acme.pk, Filters(), after=after, limit=50)
    assert sorted(call.call_id for call in [*first, *rest]) == sorted(hundred)


def test_amount_and_sequence_are_shown_once_they_are_there(priced, acme, record, settle):
    record(call_object("rated"), call_object("unrated", products=["gpt_9"]))
    shown = {call.call_id: (call.amount_micros, call.sequence) for call in calls.page(acme.pk, Filters())[0]}
    assert shown == {"rated": (130_950, None), "unrated": (None, None)}
    settle(acme)
    shown = {call.call_id: (call.amount_micros, call.sequence) for call in calls.page(acme.pk, Filters())[0]}
    assert shown == {"rated": (130_950, 1), "unrated": (None, None)}


def test_a_page_is_one_query_and_a_filtered_one_another_for_where_to_go_on(hundred, acme):
    for filters, number in ((Filters(), 1), (Filters(product="gpt_4o"), 2)):
        with CaptureQueriesContext(connection) as queries:
            calls.page(acme.pk, filters, limit=100)
        assert len(queries) == number


def test_i16_a_call_is_found_only_by_its_organization(priced, acme, other, record):
    record(call_object())
    assert calls.find(acme.pk, "call_1").organization_id == acme.pk
    assert calls.find(other.pk, "call_1") is None
    assert calls.find(acme.pk, "call_2") is None


def test_a_filter_that_few_calls_match_is_searched_in_parts_and_misses_none(priced, acme, record, monkeypatch):
    monkeypatch.setattr(calls, "SEARCHED", 10)
    record(*[call_object(f"call_{n}", direction="outbound" if n % 20 == 0 else "inbound") for n in range(60)])
    found, pages, after = [], 0, None
    while pages == 0 or after:
        page, after = calls.page(acme.pk, Filters(direction="outbound"), after=after, limit=5)
        found += [call.call_id for call in page]
        pages += 1
    assert sorted(found) == ["call_0", "call_20", "call_40"]
    assert pages >= 6


def test_a_whole_id_is_found_wherever_it_is(priced, acme, record, monkeypatch):
    monkeypatch.setattr(calls, "SEARCHED", 1)
    record(*[call_object(f"call_{n}", start_timestamp=1_790_000_000_000 + n, end_timestamp=...) for n in range(20)])
    page, _ = calls.page(acme.pk, Filters(call_id_prefix="call_3"), limit=5)
    assert [call.call_id for call in page] == ["call_3"]


def test_a_call_is_found_by_its_number_alone_with_a_probe_an_organization(priced, acme, other, record, settle):
    record(*[call_object(f"c{number}", organization=name) for number in range(3) for name in ("acme", "other")])
    settle(acme)
    for call in Call.objects.all():
        assert (call.organization_id, call.started_at, call.started_at) in calls.spans_of(call.id)
    assert calls.spans_of(0) == []
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {calls._SPANS}", {"id": 7})
        plan = " ".join(line for (line,) in cursor.fetchall())
    assert "Index Cond: ((organization_id = o.id) AND (first_id <= " in plan
