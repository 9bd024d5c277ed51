"""Pages of conversations and their outcomes: what they say, what they ask the database, and that they add up."""

import json
import re
import tomllib
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from accounts import api_keys
from billing_portal.billing.models import InterimInvoice, Invoice
from billing_portal.ledger import accounts, buckets, settling
from billing_portal.ledger.models import Grant, Transaction
from tests.billing import world
from usage.models import Conversation, ConversationEvent, OutcomeCharge
from usage.outcomes import listing, recording, rules

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


def test_outcomes_are_counted_by_type_basis_and_who_paid(client, talked):
    text = text_of(get(client, "outcomes", talked, days="month"))
    assert "5 4 confirmed, 1 assumed" in text
    assert "$11.97" in text
    assert "Resolutions 3 1 2 2 $1.98 1" in text
    assert "Qualifications 1 0 0 1 $9.99 0" in text
    assert "Total 4 1 2 3 $11.97 1" in text


def test_the_overview_counts_outcomes_and_what_they_cost(client, talked):
    text = text_of(get(client, "overview", talked))
    assert "$11.97 0 calls, 5 outcomes" in text
    assert "The last 30 days by component" in text
    assert "Outcomes $11.97" in text or "Outcomes 100.0% $11.97" in text


def test_days_without_outcomes_say_what_to_do(client, acme, now):
    accounts.open(organization=acme, now=now)
    assert "No outcome on these days" in text_of(get(client, "outcomes", acme))
    assert "No conversation matches" in text_of(get(client, "conversations", acme))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, {"c_0", "c_1", "c_2", "c_assumed", "c_lead", "c_open"}),
        ({"outcome": "qualification"}, {"c_lead"}),
        ({"reason": "assumed"}, {"c_assumed"}),
        ({"reason": "escalated"}, {"c_open"}),
        ({"funding": "bucket"}, {"c_0", "c_1"}),
        ({"funding": "money"}, {"c_assumed", "c_lead"}),
        ({"funding": "given_back"}, {"c_2"}),
        ({"funding": "none"}, {"c_2", "c_open"}),
        ({"funding": "waiting"}, set()),
        ({"reference": "c_a"}, {"c_assumed"}),
        ({"outcome": "nonsense", "cursor": "nonsense"}, {"c_0", "c_1", "c_2", "c_assumed", "c_lead", "c_open"}),
    ],
)
def test_conversations_are_filtered(client, talked, filters, found):
    page = get(client, "conversations", talked, **{"from": "2026-10-10", "to": "2026-10-10", **filters})
    assert set(re.findall(r"cell-sub mono\"\s*>(c_\w+)<", page.content.decode())) == found


def test_a_list_of_conversations_goes_on_where_it_stopped(client, talked, monkeypatch):
    monkeypatch.setattr("billing_portal.portal.conversation_list.PAGE_SIZE", 2)
    seen, url = [], f"{reverse('conversations', args=[talked.public_id])}?days=30d"
    while url:
        page = client.get(url, headers={"HX-Request": "true"}).content.decode()
        seen += re.findall(r"cell-sub mono\"\s*>(c_\w+)<", page)
        url = next(iter(re.findall(r'href="([^"]*cursor=[^"]*)"', page)), "").replace("&amp;", "&")
    assert seen == ["c_open", "c_lead", "c_assumed", "c_2", "c_1", "c_0"]


def test_a_rare_filter_searches_in_parts(client, talked, monkeypatch):
    monkeypatch.setattr(listing, "SCANNED", 2)
    text = text_of(get(client, "conversations", talked, outcome="qualification"))
    assert "Searched in part: go on for more" in text
    assert "No conversation matches so far" in text_of(get(client, "conversations", talked, reason="no_agent"))


def test_a_conversation_says_why_it_was_billed_and_who_paid(client, talked, invoice):
    text = text_of(get(client, "conversation", talked, "c_assumed"))
    assert "Why this was billed" in text
    assert "A resolution, assumed: 24 hours without a word after the agent's answer." in text.replace("&#x27;", "'")
    assert "Parley outcomes" in text or "version 1" in text
    assert "Your card, on the invoice $0.99" in text
    assert "The line on the draft invoice" in text
    assert "Dispute this" in text
    assert "Your bucket of 2 until Oct 9, 2027 1 unit" in text_of(get(client, "conversation", talked, "c_0"))


def test_a_conversation_that_was_taken_back_shows_both(client, talked):
    text = text_of(get(client, "conversation", talked, "c_2"))
    assert "Taken back" in text
    assert "Resolution charged" in text
    assert "Credit that does not expire $0.99" in text
    assert "This ends the outcome: it is not charged." in text
    assert "Dispute this" not in text


def test_a_conversation_that_is_not_billed_says_why(client, talked, now):
    assert "handed to a person, so nothing is charged" in text_of(get(client, "conversation", talked, "c_open"))
    tell(event("c/slashed id", "ai_answered", 120), now=now)
    text = text_of(get(client, "conversation", talked, "c/slashed id"))
    assert "Not billed yet" in text
    assert "Nothing yet: it becomes a resolution" in text
    missing = [get(client, "conversation", talked, each).status_code for each in ("c_nowhere", "c\0")]
    assert missing == [404, 404]


def test_what_the_rules_clearly_refuse_is_given_back_at_once(client, talked, now):
    conversation = Conversation.objects.get(reference="c_assumed")
    ConversationEvent.objects.create(
        organization=talked,
        key=uuid.uuid4(),
        conversation_id=conversation.pk,
        occurred_at=START + timedelta(hours=9),
        recorded_at=now,
        kind=6,
        digest=uuid.uuid4(),
        event_id="restored",
    )
    url = reverse("conversation_dispute", args=[talked.public_id, "c_assumed"])
    for _ in range(2):
        client.post(url)
    assert OutcomeCharge.objects.filter(kind="reversal", conversation=conversation).count() == 1
    assert Grant.objects.filter(kind="correction", reason__contains="c_assumed").count() == 1
    assert "Taken back" in text_of(get(client, "conversation", talked, "c_assumed"))


def test_what_the_rules_charge_is_disputed_by_hand(client, talked):
    answer = client.post(reverse("conversation_dispute", args=[talked.public_id, "c_lead"]))
    assert answer.url.endswith("?kind=conversation&reference=c_lead")
    assert "c_lead" in text_of(client.get(answer.url))
    assert OutcomeCharge.objects.filter(kind="reversal").count() == 1


@pytest.mark.parametrize(("name", "more", "most"), [("outcomes", [], 14), ("conversations", [], 14)])
def test_pages_of_outcomes_ask_the_database_a_fixed_number_of_times(
    client, talked, django_assert_max_num_queries, name, more, most
):
    get(client, name, talked)
    with django_assert_max_num_queries(most):
        get(client, name, talked)


def test_the_api_says_who_paid_and_what_came_back(talked, other, invoice, now):
    def billing(reference, organization=talked):
        _, secret = api_keys.issue(organization=organization, name="k", scopes=["usage:read"], now=now)
        path = f"/api/v1/conversations/{reference}/billing"
        return Client(headers={"authorization": f"Bearer {secret}"}).get(path)

    (by_card,) = billing("c_assumed").json()["movements"]
    assert (by_card["accrued_micros"], by_card["credits"], by_card["unit"]) == (990_000, [], None)
    assert by_card["billed_month"] == "2026-10"
    assert (by_card["invoice"]["line"], by_card["invoice"]["state"]) == ("resolution", "draft")
    (by_bucket,) = billing("c_0").json()["movements"]
    assert (by_bucket["unit"]["bucket_size"], by_bucket["accrued_micros"], by_bucket["invoice"]) == (2, 0, None)
    charged, taken_back = billing("c_2").json()["movements"]
    assert (charged["kind"], taken_back["kind"]) == ("charge", "reversal")
    assert taken_back["credits"] == [{"kind": "correction", "micros": 990_000}]
    foreign, missing = billing("c_0", other), billing("c_nowhere")
    assert foreign.status_code == missing.status_code == 404


def test_a_line_of_an_interim_invoice_opens_into_the_outcomes_that_it_covers(client, talked, now):
    invoice = Invoice.objects.create(organization=talked, stripe_invoice_id="in_2", currency="USD", drafted_at=now)
    InterimInvoice.objects.create(
        organization=talked,
        invoice=invoice,
        month=now.date().replace(day=1),
        first_sequence=2,
        last_sequence=3,
        last_transaction=Transaction.objects.filter(organization=talked).latest("id"),
        currency="USD",
        written_at=now,
    )
    text = text_of(get(client, "invoice_line", talked, invoice.public_id, "resolution"))
    assert "of October 2026 so far" in text
    assert ("c_1" in text, "c_2" in text) == (True, True)
    assert ("c_0" in text, "c_assumed" in text) == (False, False)
