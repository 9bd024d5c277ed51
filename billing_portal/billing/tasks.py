"""Glue between the broker and billing: ids in, one verb, safe twice.

A lost task does no harm: the sweeps find their work in PostgreSQL.
"""

from celery import shared_task

from accounts import clock
from billing_portal.billing import (
    card_facts,
    claim_sweep,
    expiry_warnings,
    inbox,
    metering,
    month_end,
    subscription_items,
)
from billing_portal.billing.amounts_due_tasks import compute_amount_due
from billing_portal.billing.collecting_tasks import mend_overdue_facts, pursue_overdue, warn_of_card_expiry
from billing_portal.billing.credit_note_tasks import issue_credit_note, issue_credit_notes
from billing_portal.billing.dispute_tasks import remind_of_disputes
from billing_portal.billing.interim_tasks import advance_interim, invoice_arrears
from billing_portal.billing.invoice_tasks import advance_invoice
from billing_portal.billing.mismatch_tasks import check_invoices
from billing_portal.billing.purchase_tasks import advance_purchase, advance_purchases, check_top_up, check_top_ups
from billing_portal.billing.receipt_tasks import continue_receipts, write_receipt
from billing_portal.billing.tax_tasks import look_at_tax_ids, send_billing_details, store_taxes

__all__ = [
    "add_missing_items",
    "advance_interim",
    "advance_invoice",
    "advance_invoices",
    "advance_purchase",
    "advance_purchases",
    "catch_up_a_month_of_events",
    "catch_up_events",
    "check_invoices",
    "check_top_up",
    "check_top_ups",
    "compute_amount_due",
    "continue_receipts",
    "forget_events",
    "handle_event",
    "handle_waiting_events",
    "invoice_arrears",
    "issue_credit_note",
    "issue_credit_notes",
    "look_at_claims",
    "look_at_tax_ids",
    "mend_card_facts",
    "mend_overdue_facts",
    "pursue_overdue",
    "remind_of_disputes",
    "send_billing_details",
    "send_reports",
    "store_taxes",
    "warn_of_card_expiry",
    "warn_of_expiry",
    "write_receipt",
]

_BATCHES = 500
_REPORTS = 2_000


@shared_task
def handle_waiting_events() -> None:
    """Handle the events that wait in the inbox."""
    inbox.handle_waiting(now=clock.now())


@shared_task
def handle_event(event_id: int) -> None:
    """Handle one event of the inbox."""
    inbox.handle(event_id, now=clock.now())


@shared_task
def catch_up_events() -> None:
    """Take in the events that Stripe has and never delivered."""
    inbox.catch_up(now=clock.now())


@shared_task
def catch_up_a_month_of_events() -> None:
    """Take in what Stripe's list still has of the last weeks and never arrived, whatever was down for how long."""
    inbox.catch_up(now=clock.now(), reach=inbox.LONGEST_REACH)


@shared_task
def look_at_claims() -> None:
    """Ask Stripe for every refund, dispute and warning that is still open."""
    claim_sweep.look_again(now=clock.now())


@shared_task
def forget_events() -> None:
    """Delete events that were handled long ago."""
    inbox.forget(now=clock.now())


@shared_task
def send_reports() -> None:
    """Write the reports that are due and send what waits."""
    now = clock.now()
    for organization_id in metering.unreported_organizations(now=now, limit=_BATCHES):
        metering.write_reports(organization_id, now=now)
    metering.send_reports(now=now, limit=_REPORTS)


@shared_task
def add_missing_items() -> None:
    """Put the items of new meters on every subscription, before anything is reported to them."""
    subscription_items.complete_all(now=clock.now())


@shared_task
def advance_invoices() -> None:
    """Take every invoice that waits as far as it can go."""
    month_end.advance_waiting(now=clock.now())


@shared_task
def mend_card_facts() -> None:
    """Prove what the ledger knows of cards."""
    card_facts.mend()


@shared_task
def warn_of_expiry() -> None:
    """Write to those whose credit is about to expire."""
    expiry_warnings.warn(now=clock.now())
