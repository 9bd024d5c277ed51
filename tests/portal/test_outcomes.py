"""Pages of conversations and their outcomes: what they say, what they ask the database, and that they add up."""

import json
import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.billing.models import Invoice
from billing_portal.ledger import accounts, buckets, settling
from tests.billing import world
from usage.outcomes import recording, rules

pytestmark = pytest.mark.django_db
DOCUMENT = Path("usage/price_books/outcomes.toml")
START = datetime.fromisoformat("2026-10-10T08:00:00+00:00")


def event(reference, kind, hours=0.0, **fields):
    at = START + timedelta(hours=hours)
    return {
        "organization": "acme",
        "conversation_id": reference,
        "event_id": f"{reference}:{kind}:{hours}",
        "type": kind,
        "occurred_at": at.isoformat(),
        **fields,
    }


def tell(*events, now):
    answers = recording.record([json.dumps(each).encode() for each in events], now=now)
    assert {answer.status for answer in answers} <= {"recorded", "held"}, answers


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


@pytest.fixture
def talked(acme, now):
    """Acme with a bucket of two units, three confirmed resolutions, an assumed one, a qualification, and one undone."""
    world.load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=now)
    opened = START - timedelta(days=1)
    accounts.open(organization=acme, now=opened)
    terms = buckets.Terms(("resolution",), 2, 1_800_000, opened, opened + timedelta(days=365))
    buckets.add(acme.pk, terms, reference="bucket:1", now=opened)
    for number in range(3):
        tell(
            event(f"c_{number}", "ai_answered", number),
            event(f"c_{number}", "customer_replied", number + 0.1, reply_kind="affirmative"),
            now=now,
        )
    tell(event("c_assumed", "ai_answered", 4), now=now)
    tell(event("c_lead", "ai_answered", 5), event("c_lead", "qualified", 5.1), now=now)
    tell(event("c_open", "ai_answered", 6), event("c_open", "escalated", 6.2), now=now)
    settling.settle_all(acme.pk, now=now)
    tell(event("c_2", "customer_replied", 30, reply_kind="needs_help"), now=now)
    settling.settle_all(acme.pk, now=now)
    return acme


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def get(client, name, organization, *more, **query):
    return client.get(reverse(name, args=[organization.public_id, *more]), query)


def text_of(response) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


@pytest.fixture
def invoice(talked, now) -> Invoice:
    return Invoice.objects.create(
        organization=talked, stripe_invoice_id="in_1", currency="USD", drafted_at=now, month=now.date().replace(day=1)
    )


def test_a_line_of_outcomes_says_how_many_at_which_price(client, talked, invoice):
    text = text_of(get(client, "invoice", talked, invoice.public_id))
    assert "Resolutions 2 × $0.99" in text
    assert "Qualifications 1 × $9.99" in text
    assert "Calls, outcomes" in text


def test_a_line_opens_into_its_outcomes(client, talked, invoice):
    text = text_of(get(client, "invoice_line", talked, invoice.public_id, "resolution"))
    assert "2 × $0.99" in text
    assert text.count("1 unit") == 2
    for reference in ("c_0", "c_1", "c_2", "c_assumed"):
        assert reference in text
    assert "c_lead" not in text
    assert "Assumed" in text
    assert "given back on Oct 15, 2026" in text
    assert "Taken back charged in October 2026" in text


def test_the_outcomes_of_a_line_are_paged_in_the_order_of_settlement(client, talked, invoice, monkeypatch):
    monkeypatch.setattr("billing_portal.portal.views.invoices._PAGE_SIZE", 2)
    first = get(client, "invoice_line", talked, invoice.public_id, "resolution")
    assert "?after=2" in first.content.decode()
    rest = client.get(
        reverse("invoice_line", args=[talked.public_id, invoice.public_id, "resolution"]),
        {"after": "2"},
        headers={"HX-Request": "true"},
    )
    text = text_of(rest)
    assert "<html" not in rest.content.decode()
    assert "c_0" not in text
    assert "c_2" in text
