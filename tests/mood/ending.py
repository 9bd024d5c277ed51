"""How a world ended: what must be equal in a calm one and in a bad one, and what must hold in either.

Ids, instants and letters differ from one world to the other, and so does what was tried in vain: declined charges,
purchases that failed and invoices that were void. All that was used, billed, paid, given and owed must not.
"""

from collections import Counter
from typing import Any

from django.db.models import Sum

from accounts.models import Organization
from billing_portal.billing import invoices, mismatches, reconciliation
from billing_portal.billing.models import (
    Chargeback,
    CreditNote,
    InboxEvent,
    Intent,
    Invoice,
    Mismatch,
    Overdue,
    Purchase,
    Refund,
    Report,
)
from billing_portal.ledger import balances, verification
from billing_portal.ledger.models import Account, Bucket, Entry, Grant, SettlementLine, Transaction
from tests.mood.world import World

# These move an object on, and nobody repeats them who finds it moved: a lost answer is not asked for again.
MAY_STAY_UNANSWERED = {
    "customers.update",
    "finalize invoice",
    "finalize purchase",
    "pay invoice",
    "pay purchase",
    "void purchase",
}


def state(organization: Organization, world: World) -> dict[str, Any]:
    """Return all that a customer had, used, was billed, paid and is owed, without ids and instants."""
    mine = {"organization": organization}
    billed = Invoice.objects.filter(**mine).exclude(state=Invoice.State.VOID).order_by("drafted_at", "id")
    lines = SettlementLine.objects.filter(**mine).values_list("settlement__month", "component")
    reports = Report.objects.filter(**mine).values_list("batch__month", "component", "state")
    balance = balances.balance(Account.objects.get(**mine), now=world.now)
    return {
        "used": sorted(lines.annotate(Sum("gross_micros"), Sum("accrued_micros")).order_by()),
        "reported": sorted(reports.annotate(Sum("micros")).order_by()),
        "invoices": sorted(_invoice(each) for each in billed),
        "lines": sorted(
            Counter(
                (str(line.invoice.month), line.kind, line.component, line.grant_kind, line.amount_minor)
                for each in billed
                for line in each.lines.select_related("invoice")
            ).items()
        ),
        "grants": sorted(Grant.objects.filter(**mine).values_list("kind", "amount_micros", "remaining_micros")),
        "buckets": sorted(Bucket.objects.filter(**mine).values_list("size", "remaining_units")),
        "bought": sorted(_credited(organization).values_list("kind", "origin", "amount_micros")),
        "refunds": sorted(Refund.objects.filter(**mine).values_list("state", "amount_minor")),
        "chargebacks": sorted(Chargeback.objects.filter(**mine).values_list("state", "amount_minor")),
        "notes": sorted(CreditNote.objects.filter(**mine).values_list("state", "total_minor", "pre_minor")),
        "overdue": Overdue.objects.filter(**mine, ended_at=None).count(),
        "books": sorted(
            Entry.objects.filter(**mine).order_by().values_list("book").annotate(Sum("micros"))
        ),
        "balance": (balance.credit_micros, balance.accrued_micros),
    }  # fmt: skip


def assert_nothing_is_left(world: World) -> None:
    """Assert that every event, write, report and purchase came to its end, none of them parked or unknown."""
    events = Counter(InboxEvent.objects.values_list("state", flat=True))
    assert not events.keys() - {InboxEvent.State.DONE, InboxEvent.State.IGNORED}, events
    unanswered = Counter(
        Intent.objects.filter(state__in=[Intent.State.PENDING, Intent.State.UNKNOWN]).values_list("verb", "state")
    )
    assert {verb for verb, _ in unanswered} <= MAY_STAY_UNANSWERED, unanswered
    assert Intent.State.UNKNOWN not in {state for _, state in unanswered}, unanswered
    assert not Report.objects.exclude(state=Report.State.ACCEPTED).exists()
    assert not Purchase.objects.filter(state__in=[*Purchase.OPEN, Purchase.State.PAID]).exists()
    assert not Overdue.objects.filter(ended_at=None).exists()


def assert_every_cent_is_explained(world: World) -> None:
    """Assert that calls, charges, reports, lines, books and payments agree, down to the single call."""
    for organization in Organization.objects.order_by("id"):
        assert list(verification.verify(organization.pk)) == [], organization
    for invoice in Invoice.objects.exclude(state=Invoice.State.VOID).order_by("id"):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == [], invoice
    mismatches.check_due(now=world.now, limit=10_000)
    assert list(Mismatch.objects.filter(state=Mismatch.State.OPEN)) == []


def assert_every_payment_is_credited_once(world: World) -> int:
    """Assert that each charge that succeeded at Stripe is one grant, one bucket or one paid invoice of usage (I13).

    Returns how many there were.
    """
    objects = world.sandbox.dump()["objects"]
    paid_at_stripe = Counter(
        payment["invoice"] for payment in objects.get("invoice_payment", []) if payment["status"] == "paid"
    )
    charges = [charge for charge in objects.get("charge", []) if charge["status"] == "succeeded"]
    assert set(paid_at_stripe.values()) == {1}
    assert len(charges) == len(paid_at_stripe)
    ours = {invoice.stripe_invoice_id: invoice for invoice in Invoice.objects.filter(amount_paid_minor__gt=0)}
    assert ours.keys() == paid_at_stripe.keys()
    assert sum(charge["amount"] for charge in charges) == sum(each.amount_paid_minor for each in ours.values())
    for invoice in ours.values():
        assert invoice.state == Invoice.State.PAID
        purchase = Purchase.objects.filter(invoice=invoice).first()
        if purchase is not None:
            given = Grant.objects.filter(organization=invoice.organization, reference=purchase.reference).count()
            given += Bucket.objects.filter(organization=invoice.organization, reference=purchase.reference).count()
            assert (purchase.state, given) == (Purchase.State.CREDITED, 1)
        else:
            reference = invoices.collect_reference(invoice)
            collected = Transaction.objects.filter(organization=invoice.organization, reference=reference)
            assert collected.count() == 1, invoice
    assert Purchase.objects.filter(state=Purchase.State.CREDITED).count() == sum(
        Purchase.objects.filter(invoice=invoice).exists() for invoice in ours.values()
    )
    return len(charges)


def _credited(organization: Organization) -> Any:
    return Purchase.objects.filter(organization=organization, state=Purchase.State.CREDITED)


def _invoice(invoice: Invoice) -> tuple[Any, ...]:
    return (
        str(invoice.month),
        invoice.state,
        invoice.total_minor,
        invoice.tax_minor,
        invoice.amount_due_minor,
        invoice.amount_paid_minor,
        invoice.pre_credited_minor,
        invoice.post_credited_minor,
        invoice.starting_balance_minor,
        str(invoice.ending_balance_minor),
    )
