"""From what happened in conversations to the paid invoice, and back when a customer comes back for help."""

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, Organization
from billing_portal.billing import gateway, invoices, month_end, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settling, totals
from billing_portal.ledger.models import Grant
from tests.billing.receipts.conftest import assert_all_verified
from tests.billing.world import ANCHOR, CLOSING, MIDMONTH, MONTH, invoice_of, load_prices
from tests.stripe.conftest import RunningSandbox
from usage.models import OutcomeCharge
from usage.outcomes import rules

Subscribed = Callable[..., Organization]
MARCH = date(2027, 3, 1)
DOCUMENT = Path("usage/price_books/outcomes.toml")


@pytest.fixture
def tell(stripe: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a sender of events by the API: (conversation, type, instant, further fields)."""
    scopes = [ApiKey.Scope.CALLS_WRITE]
    _, secret = api_keys.issue(organization=None, name="platform", scopes=scopes, now=MIDMONTH)
    vendor = Client(headers={"Authorization": f"Bearer {secret}"})

    def tell(*events: tuple[str, str, datetime, dict[str, object]]) -> None:
        monkeypatch.setattr("accounts.clock.now", lambda: max(event[2] for event in events) + timedelta(minutes=1))
        body = [
            {
                "organization": "acme",
                "conversation_id": conversation,
                "event_id": f"{conversation}-{kind}-{at.isoformat()}",
                "type": kind,
                "occurred_at": at.isoformat(),
                **more,
            }
            for conversation, kind, at, more in events
        ]
        answer = vendor.post("/api/v1/conversations/events", json.dumps(body), content_type="application/json").json()
        assert answer["recorded"] == len(events), answer

    return tell


def helped(number: int, at: datetime = MIDMONTH) -> list[tuple[str, str, datetime, dict[str, object]]]:
    """Return a conversation in which the customer says that the answer helped."""
    said = {"reply_kind": "affirmative"}
    return [
        (f"c_{number}", "ai_answered", at, {}),
        (f"c_{number}", "customer_replied", at + timedelta(minutes=5), said),
    ]


def lines_at_stripe(invoice: Invoice) -> dict[str, int]:
    return {line["description"]: line["amount"] for line in gateway.list_invoice_lines(invoice.stripe_invoice_id)}


def test_f48_i18_outcomes_are_billed_by_count_and_price_and_one_taken_back_later_is_given_back_once(
    stripe: RunningSandbox, subscribed: Subscribed, tell: Callable[..., None], tmp_path: Path
) -> None:
    load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=datetime(2026, 1, 1, tzinfo=UTC))
    acme = subscribed("acme")
    tell(
        *(event for number in range(5) for event in helped(number)),
        ("c_5", "ai_answered", MIDMONTH, {}),
        ("c_6", "ai_answered", MIDMONTH, {}),
        ("c_6", "qualified", MIDMONTH + timedelta(minutes=2), {}),
    )
    # What is assumed becomes final by silence: the walk of the month charges and settles it.
    stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING), Invoice.objects.get().waiting_for
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert invoice.total_minor == 6 * 99 + 999
    billed = lines_at_stripe(invoice)
    assert (billed["Resolutions 6 × $0.99"], billed["Qualifications 1 × $9.99"]) == (594, 999)
    checked = reconciliation.reconcile_invoice(invoice, deep=True)
    assert checked.differences == []
    counts = {line.component: (line.calls, line.prices) for line in checked.lines if line.prices}
    assert counts == {"resolution": (6, [(6, 990_000)]), "qualification": (1, [(1, 9_990_000)])}

    # In the next month the customer of one comes back, and another conversation is a resolution.
    before = list(invoice.lines.order_by("position").values())
    april = CLOSING + timedelta(days=3)
    tell(("c_0", "customer_replied", april, {"reply_kind": "needs_help"}), *helped(7, april), *helped(8, april))
    settling.settle_all(acme.pk, now=april + timedelta(hours=1))
    grant = Grant.objects.get(organization=acme)
    assert (grant.kind, grant.amount_micros) == (Grant.Kind.CORRECTION, 990_000)
    assert "c_0" in grant.reason
    reversal = OutcomeCharge.objects.get(kind="reversal")
    assert (reversal.billed_month, reversal.reverses.billed_month) == (MARCH, MONTH)
    ending = datetime(2027, 4, 1, 12, 10, tzinfo=UTC)
    stripe.advance_to(ending.timestamp())
    second = invoice_of(acme, month=MARCH, now=ending)
    assert month_end.advance(second, now=ending), second.waiting_for
    second.refresh_from_db()
    assert (second.state, second.total_minor, second.subtotal_minor) == (Invoice.State.PAID, 99, 99)
    assert lines_at_stripe(second)["Resolutions 2 × $0.99"] == 198
    assert lines_at_stripe(second)["Correction · Resolutions"] == -99
    assert totals.month(acme.pk, MARCH).accrued_micros == 990_000
    # The closed invoice stays as it was, to the byte.
    invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=ending)
    assert list(invoice.lines.order_by("position").values()) == before
    for each in (invoice, second):
        each.refresh_from_db()
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []
    assert invoice.total_minor == 6 * 99 + 999
    assert assert_all_verified(acme, tmp_path) == 2


def test_an_invoice_goes_on_where_stripe_takes_no_description(
    stripe: RunningSandbox, subscribed: Subscribed, tell: Callable[..., None]
) -> None:
    load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=datetime(2026, 1, 1, tzinfo=UTC))
    acme = subscribed("acme")
    tell(*helped(1))
    stripe.advance_to(CLOSING.timestamp())
    stripe.faults(fail_next={"status": 400, "path": "/lines/", "method": "POST"})
    invoice = invoice_of(acme, now=ANCHOR)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.total_minor) == (Invoice.State.PAID, 99)
    assert "990000 × Resolutions" in lines_at_stripe(invoice)
