"""The reconciliation that never ends: what differs is named, what can be healed heals, the rest waits for a person."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import Organization, User
from billing_portal.billing import gateway, mismatches, month_end
from billing_portal.billing.models import CreditNote, Invoice, InvoiceCheck, Mismatch
from tests.billing.world import CLOSING, MONTH, invoice_of
from tests.stripe.conftest import RunningSandbox

State = Mismatch.State


@pytest.fixture
def paid(used: Callable[..., Organization]) -> Invoice:
    invoice = invoice_of(used("acme", calls=12, credit_micros=0))
    month_end.advance(invoice, now=CLOSING)
    return Invoice.objects.select_related("organization").get(pk=invoice.pk)


def tamper(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
        cursor.execute("SET session_replication_role = DEFAULT")


def test_invoices_are_compared_when_they_move_and_then_now_and_again(paid: Invoice) -> None:
    assert mismatches.check_due(now=CLOSING) == 0
    seen = InvoiceCheck.objects.get()
    assert (seen.differences, seen.state, seen.deep_at) == (0, "paid", CLOSING)
    assert list(mismatches.due(now=CLOSING + timedelta(minutes=30))) == []
    later = CLOSING + mismatches.AGAIN_AFTER * 1.5
    assert list(mismatches.due(now=later)) == [paid]
    mismatches.check_due(now=later)
    seen.refresh_from_db()
    assert (seen.checked_at, seen.deep_at) == (later, CLOSING)
    assert list(mismatches.due(now=CLOSING + mismatches.WATCHED * 2)) == []


def test_what_can_be_healed_heals_itself_and_says_what_it_was(paid: Invoice) -> None:
    told = {"invoice": paid.stripe_invoice_id, "amount": 200, "credit_amount": 200}
    gateway.create("credit_notes", told, "its event is lost")
    Invoice.objects.filter(pk=paid.pk).update(post_credited_minor=200)
    assert mismatches.check(Invoice.objects.get(pk=paid.pk), now=CLOSING) == []
    assert CreditNote.objects.get().state == CreditNote.State.ISSUED
    assert not Mismatch.objects.exists()


def test_what_cannot_is_queued_once_with_cause_amount_and_owner_and_ends_when_it_is_gone(paid: Invoice) -> None:
    tamper("UPDATE billing_invoiceline SET amount_minor = amount_minor + 3 WHERE component = 'llm'")
    for _ in range(2):
        found = mismatches.check(paid, now=CLOSING)
    assert {(each.level, each.cause, each.owner, each.amount_micros) for each in found} == {
        ("line amount", "misbilled", "staff", 30_000),
        ("total", "missing_event", "portal", -30_000),
    }
    assert list(mismatches.queue()) == found[::-1]
    assert InvoiceCheck.objects.get().differences == 2
    tamper("UPDATE billing_invoiceline SET amount_minor = amount_minor - 3 WHERE component = 'llm'")
    assert mismatches.check_due(now=CLOSING) == 0
    assert set(Mismatch.objects.values_list("state", "ended_at")) == {(State.HEALED, CLOSING)}


def test_what_a_person_explained_is_asked_about_again_only_when_it_changes(
    paid: Invoice, make_user: Callable[..., User]
) -> None:
    sam = make_user("sam@desk.example", is_staff=True)
    tamper("UPDATE billing_invoiceline SET amount_minor = amount_minor + 3 WHERE component = 'llm'")
    for each in mismatches.check(paid, now=CLOSING):
        mismatches.explain(each, by=sam, now=CLOSING)
    assert mismatches.check(paid, now=CLOSING) == []
    tamper("UPDATE billing_invoiceline SET amount_minor = amount_minor + 1 WHERE component = 'llm'")
    assert len(mismatches.check(paid, now=CLOSING)) == 2


def test_a_month_that_no_invoice_bills_is_named_until_one_does(
    used: Callable[..., Organization], stripe: RunningSandbox
) -> None:
    acme = used("acme", calls=3, credit_micros=0)
    late = CLOSING + timedelta(hours=2)
    assert mismatches.check_due(now=late) == 1
    (waiting,) = mismatches.queue()
    assert (waiting.month, waiting.cause, waiting.organization) == (MONTH, "late", acme)
    month_end.advance_waiting(now=late)
    assert mismatches.check_due(now=late) == 0
    waiting.refresh_from_db()
    assert waiting.state == State.HEALED


def test_f24_an_invoice_that_cannot_be_compared_keeps_no_other_from_it(
    paid: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(invoice: Invoice, *, now: object) -> None:
        raise RuntimeError("poison")

    monkeypatch.setattr(mismatches, "check", fail)
    assert mismatches.check_due(now=CLOSING) == 0
