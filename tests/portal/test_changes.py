"""What changed, on the page: the words, the sums, what is behind a step, and which days are compared."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing_portal.billing.models import Invoice
from billing_portal.ledger import accounts, credits, periods, settlement, totals
from billing_portal.ledger.models import Grant
from billing_portal.portal import change_story, compared_periods
from tests.portal.test_pages import text_of
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures
from tests.usage.test_changes import some
from usage import changes
from usage.causes import Cause
from usage.changes import Span

pytestmark = pytest.mark.django_db
TODAY = date(2026, 10, 15)


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def dearer(acme, record, priced):  # noqa: F811
    """Acme with a closed August and September and some October: more calls, longer ones, a dearer model; credit too."""
    acme.created_at = datetime(2026, 7, 1, tzinfo=UTC)
    acme.save()
    accounts.open(organization=acme, now=acme.created_at)
    for month, kinds, credit in (
        (date(2026, 8, 5), [(20, 60_000, "gpt_4o_mini")], 500_000),
        (date(2026, 9, 5), [(20, 90_000, "gpt_4o_mini"), (15, 150_000, "gpt_4o")], 200_000),
        (date(2026, 10, 5), [(40, 100_000, "gpt_5")], 0),
    ):
        at = datetime(month.year, month.month, 10, tzinfo=UTC)
        if credit:
            credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=credit, reference=f"{month}", now=at)
        for count, ms, model in kinds:
            record(*some(month, count, ms=ms, products=("platform", "elevenlabs_tts", model)), now=at)
        settlement.settle_all(acme.pk, now=at)
        if month.month < 10:
            periods.close(acme.pk, month.replace(day=1), now=at + timedelta(days=25))
    return acme


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def address(organization, cause="", **query):
    url = (
        reverse("change", args=[organization.public_id, cause])
        if cause
        else reverse("changes", args=[organization.public_id])
    )
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in query.items())}" if query else url


def test_a_billed_month_goes_from_what_was_billed_to_what_was_billed(client, dearer):
    text = text_of(client.get(address(dearer, month="2026-09")))
    before, after = (totals.month(dearer.pk, date(2026, month, 1)).accrued_micros for month in (8, 9))
    assert f"September 2026 came to ${after / 10**6:.2f} after credit" in text
    assert f"${(after - before) / 10**6:.2f} more than August 2026" in text
    assert "because there were more calls" in text
    assert "because dearer models, voices or lines were used" in text
    assert "$0.30 more because less credit was used" in text
    assert "Credit used" in text
    assert "prices went" not in text


def test_the_steps_lead_from_the_one_amount_to_the_other_exactly(dearer):
    compared = compared_periods.read({"month": "2026-09"}, today=TODAY)
    story = change_story.of(dearer, compared, here="/")
    before, after = (totals.month(dearer.pk, date(2026, month, 1)) for month in (8, 9))
    assert sum(story.parts.values()) == after.accrued_micros - before.accrued_micros
    assert story.parts[change_story.CREDIT] == before.burnt_micros - after.burnt_micros == 300_000
    gross = {cause: micros for cause, micros in story.parts.items() if cause != change_story.CREDIT}
    assert sum(gross.values()) == after.gross_micros - before.gross_micros


def test_without_a_choice_the_month_so_far_is_compared_with_the_same_days(client, dearer):
    page = client.get(address(dearer))
    text = text_of(page)
    assert "Oct 1 – 14, 2026 against Sep 1 – 14, 2026 · usage before credit" in text
    explained = changes.between(dearer.pk, *changes.so_far(TODAY))
    assert f"came to ${explained.after.micros / 10**6:.2f}:" in text
    assert "Credit used" not in text


def test_every_step_opens_into_products_whose_parts_add_up_to_it(client, dearer):
    for cause, micros in changes.between(dearer.pk, *changes.so_far(TODAY)).parts.items():
        page = client.get(address(dearer, cause))
        parts = [each.micros for each in page.context["rows"]]
        assert sum(parts) == micros == page.context["micros"]
        assert bool(parts) == bool(micros) == ("Nothing changed here" not in text_of(page))


def test_a_figure_leads_to_the_very_calls_behind_it(client, dearer):
    page = client.get(address(dearer, Cause.MIX)).content.decode()
    links = re.findall(r'href="([^"]*/usage/calls/\?[^"]*product=gpt_5[^"]*)"', page)
    assert len(links) == 1
    calls = text_of(client.get(links[0].replace("&amp;", "&")))
    assert "call_2026-10-05_100000_39_3" in calls
    assert "call_2026-09-05" not in calls


def test_volume_names_the_agents_and_credit_its_kinds(client, dearer):
    assert "Receptionist" in text_of(client.get(address(dearer, Cause.VOLUME)))
    credit = text_of(client.get(address(dearer, change_story.CREDIT, month="2026-09")))
    assert "Goodwill" in credit
    assert "+$0.30" in credit


def test_the_overview_the_usage_page_and_a_months_invoice_lead_here(client, dearer, now):
    invoice = Invoice.objects.create(
        organization=dearer, stripe_invoice_id="in_1", currency="USD", drafted_at=now, month=date(2026, 9, 1)
    )
    assert address(dearer) in client.get(reverse("overview", args=[dearer.public_id])).content.decode()
    assert address(dearer) in client.get(reverse("usage", args=[dearer.public_id])).content.decode()
    page = client.get(reverse("invoice", args=[dearer.public_id, invoice.public_id])).content.decode()
    assert address(dearer, month="2026-09") in page


def test_nothing_at_all_says_what_to_do(client, acme):
    accounts.open(organization=acme, now=acme.created_at)
    assert "Nothing was used in either period" in text_of(client.get(address(acme)))


def test_days_without_any_before_say_so_in_the_same_words(client, dearer):
    text = text_of(client.get(address(dearer, month="2026-08")))
    assert "more than July 2026" in text


@pytest.mark.parametrize(
    "query",
    [
        {"month": "2026-13"},
        {"month": "x"},
        {"month": "2031-01"},
        {"month": "0001-01"},
        {"from": "2026-10-01"},
        {"from": "9999-12-31", "to": "0001-01-01"},
        {"from": "2026-09-01", "to": "2026-09-02", "against_from": "x", "against_to": "y"},
        {"month": "2026-09", "against": "2026-09"},
    ],
)
def test_a_strange_address_still_shows_a_page(client, dearer, query):
    assert client.get(address(dearer, **query)).status_code == 200
    assert client.get(address(dearer, Cause.MIX, **query)).status_code == 200


def test_an_unknown_cause_is_no_page(client, dearer):
    assert client.get(address(dearer, "weather")).status_code == 404


def test_what_a_month_is_called_and_compared_with():
    assert compared_periods.read({"month": "2026-10"}, today=TODAY).after == Span(date(2026, 10, 1), date(2026, 10, 14))
    billed = compared_periods.read({"month": "2026-09"}, today=TODAY)
    assert (billed.before_name, billed.after_name) == ("August 2026", "September 2026")
    assert compared_periods.read({"month": "2026-09", "against": "2026-02"}, today=TODAY).query == (
        "month=2026-09&against=2026-02"
    )
    uneven = {"from": "2026-09-01", "to": "2026-09-10", "against_from": "2026-08-01", "against_to": "2026-08-03"}
    assert compared_periods.read(uneven, today=TODAY).is_uneven


def test_more_days_do_not_ask_the_database_more(client, dearer):
    client.get(address(dearer))
    counts = []
    for query in ({}, {"from": "2026-08-01", "to": "2026-10-14"}):
        with CaptureQueriesContext(connection) as queries:
            client.get(address(dearer, **query))
        counts.append(len(queries))
    assert counts[0] == counts[1]
