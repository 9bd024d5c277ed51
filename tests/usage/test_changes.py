import tomllib
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing_portal.ledger import accounts, settlement
from billing_portal.ledger import periods as ledger_periods
from tests.usage.conftest import call_object
from tests.usage.test_causes import nonzero, period
from tests.usage.test_rating import LIST_PRICES, PARLEY
from usage import changes, prices, rollups
from usage.causes import Cause
from usage.changes import Span
from usage.rating import CallFacts

pytestmark = pytest.mark.django_db
SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)


def some(day, count, *, ms=97_000, products=("platform", "elevenlabs_tts", "gpt_4o_mini"), **fields):
    start = datetime(2026, day.month, day.day, 8, tzinfo=UTC)
    return [
        call_object(
            f"call_{day}_{ms}_{number}_{len(products)}",
            start_timestamp=(start + timedelta(minutes=number)).isoformat(),
            end_timestamp=...,
            duration_ms=ms,
            products=list(products),
            **fields,
        )
        for number in range(count)
    ]


def test_what_the_cube_holds_is_what_the_calls_are(priced, acme, record, settle):
    day = date(2026, 10, 2)
    tokens = {"llm_token_usage": {"average": 9_000, "num_requests": 3}}
    record(*some(day, 3, **tokens), *some(day, 2, ms=10_001, products=("platform", "gpt_5", "branded_call")))
    settle(acme)
    expected = period(
        [CallFacts(97_000, ("elevenlabs_tts", "gpt_4o_mini", "platform"), 27_000, 3)] * 3
        + [CallFacts(10_001, ("branded_call", "gpt_5", "platform"))] * 2,
        LIST_PRICES,
    )
    found = changes.usage_of(acme.pk, Span(day, day))
    assert sorted(found.priced, key=repr) == sorted(expected.priced, key=repr)
    assert (found.calls, found.duration_ms, found.llm_tokens) == (5, 3 * 97_000 + 2 * 10_001, 81_000)


def test_the_change_is_that_of_the_rollups_and_of_no_other_organization(priced, acme, other, record, settle):
    record(*some(SEPTEMBER, 4), *some(OCTOBER, 7, ms=50_000, products=("platform", "gpt_4o")))
    record(*[{**each, "organization": "other"} for each in some(OCTOBER, 3)])
    settle(acme)
    settle(other)
    explained = changes.between(acme.pk, Span(SEPTEMBER, SEPTEMBER), Span(OCTOBER, OCTOBER))
    before, after = (rollups.total(acme.pk, starts_on=day, ends_on=day) for day in (SEPTEMBER, OCTOBER))
    assert (explained.before.micros, explained.after.micros) == (before.micros, after.micros)
    assert sum(explained.parts.values()) == after.micros - before.micros
    assert nonzero(explained) == {Cause.VOLUME, Cause.DURATION, Cause.MIX}


def test_a_billed_month_holds_late_calls_and_agrees_with_the_components_of_its_invoice(
    priced, make_organization, record, now
):
    acme = make_organization("acme")
    accounts.open(organization=acme, now=datetime(2026, 9, 1, tzinfo=UTC))
    record(*some(date(2026, 9, 10), 2), now=datetime(2026, 9, 11, tzinfo=UTC))
    settlement.settle_all(acme.pk, now=datetime(2026, 9, 11, tzinfo=UTC))
    ledger_periods.close(acme.pk, SEPTEMBER, now=datetime(2026, 10, 3, tzinfo=UTC))
    record(*some(date(2026, 9, 20), 1), *some(OCTOBER, 1), now=now)
    settlement.settle_all(acme.pk, now=now)
    spans = [Span.of_month(month) for month in (SEPTEMBER, OCTOBER)]
    explained = changes.between(acme.pk, *spans)
    for usage, month, calls in ((explained.before, SEPTEMBER, 2), (explained.after, OCTOBER, 2)):
        assert usage.micros == sum(rollups.component_totals(acme.pk, month).values())
        assert usage.calls == calls


def test_a_new_price_version_is_price_alone(priced, acme, record, settle):
    document = tomllib.loads(PARLEY.read_text())
    for book in document["books"]:
        version = dict(book["versions"][0], number=2, starts_at=datetime(2026, 10, 1, tzinfo=UTC))
        version["rates"] = [
            {**each, "rate": "0.009"} if each["product"] == "gpt_4o_mini" else each for each in version["rates"]
        ]
        book["versions"].append(version)
    prices.load(document, now=datetime(2026, 9, 1, tzinfo=UTC))
    tokens = {"llm_token_usage": {"average": 9_000, "num_requests": 3}}
    record(*some(SEPTEMBER, 5, **tokens), *some(OCTOBER, 5, **tokens))
    settle(acme)
    explained = changes.between(acme.pk, Span(SEPTEMBER, SEPTEMBER), Span(OCTOBER, OCTOBER))
    assert nonzero(explained) == {Cause.PRICE}
    assert {each.product for each in explained.products if each.micros} == {"gpt_4o_mini", "llm_token_surcharge"}


def test_no_raw_call_is_read(priced, acme, record, settle):
    record(*some(OCTOBER, 2))
    settle(acme)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        changes.between(acme.pk, Span(SEPTEMBER, SEPTEMBER), Span(OCTOBER, OCTOBER))
    assert len(queries) == 4
    assert not [each["sql"] for each in queries if "usage_call " in each["sql"] or "usage_callrange" in each["sql"]]


@pytest.mark.parametrize(
    ("today", "before", "after"),
    [
        ("2026-11-21", ("2026-10-01", "2026-10-20"), ("2026-11-01", "2026-11-20")),
        ("2026-11-01", ("2026-10-01", "2026-10-01"), ("2026-11-01", "2026-11-01")),
        ("2026-03-31", ("2026-02-01", "2026-02-28"), ("2026-03-01", "2026-03-30")),
    ],
)
def test_a_month_so_far_is_compared_with_the_same_days(today, before, after):
    assert changes.so_far(date.fromisoformat(today)) == tuple(
        Span(*map(date.fromisoformat, days)) for days in (before, after)
    )
