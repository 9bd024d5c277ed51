"""Making credit notes at Stripe: a walk that trusts nothing to run once, each write under its own intent."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from billing_portal.billing import credit_notes, gateway, intents, invoices, locks
from billing_portal.billing.models import CreditNote, Invoice
from billing_portal.ledger import accounts

log = structlog.get_logger(__name__)

_LOOK_AGAIN_AFTER = timedelta(minutes=1)
_UNPAID = {"open", "uncollectible"}


def issue(note: CreditNote, *, now: datetime) -> bool:
    """Make one credit note at Stripe; True when nothing is left to do. One process at a time is at it."""
    with locks.attempt(f"credit_note:{note.pk}") as held:
        if not held:
            return False
        note.refresh_from_db()
        if note.due_at is None:
            return True
        try:
            _issue(note, now=now)
        except (gateway.Unavailable, gateway.RateLimited, accounts.AccountFrozen):
            log.warning("credit note waits", credit_note_id=note.pk, organization_id=note.organization_id)
            CreditNote.objects.filter(pk=note.pk, due_at__isnull=False).update(due_at=now + _LOOK_AGAIN_AFTER)
        except gateway.Refused as error:
            credit_notes.refuse(note, failure=error.message)
        note.refresh_from_db()
    return note.due_at is None


def issue_waiting(*, now: datetime, limit: int = 200) -> int:
    """Make every credit note that is due; return how many came to their end. None keeps another from it (F24)."""
    due = CreditNote.objects.filter(due_at__lte=now).select_related("organization", "invoice").order_by("due_at", "id")
    return sum(_issue_safely(note, now=now) for note in due[:limit])


def _issue_safely(note: CreditNote, *, now: datetime) -> bool:
    try:
        return issue(note, now=now)
    except Exception:
        log.exception("credit note cannot be made", credit_note_id=note.pk, organization_id=note.organization_id)
        return False


def _issue(note: CreditNote, *, now: datetime) -> None:
    reference = f"credit_note:{note.public_id}"
    params = intents.recorded_params(reference) or _params(note, now=now)
    try:
        stripe_id = _perform(note, reference, params, now=now)
    except gateway.Refused:
        # The invoice may have been paid since, or its charge refunded: once more with what is true now.
        fresh = _params(note, now=now)
        if fresh == params:
            raise
        stripe_id = _perform(note, reference, fresh, now=now)
    _receive_invoice(note, now=now)
    credit_notes.receive(gateway.retrieve("credit_notes", stripe_id), now=now)


def _perform(note: CreditNote, reference: str, params: dict[str, Any], *, now: datetime) -> str:
    return intents.perform(
        organization=note.organization,
        verb="create credit note",
        reference=reference,
        params=params,
        call=partial(gateway.create, "credit_notes"),
        look_up=lambda: _find(note),
        again=True,
        now=now,
    )


def _params(note: CreditNote, *, now: datetime) -> dict[str, Any]:
    """Return what Stripe is asked for, as things are: what was paid goes back, what is open is lowered."""
    data = _receive_invoice(note, now=now)
    params: dict[str, Any] = {
        "invoice": data["id"],
        "amount": note.total_minor,
        "memo": note.reason,
        "email_type": "none",
        "metadata": {"credit_note": str(note.public_id), "organization": str(note.organization.public_id)},
    }
    open_minor = data["amount_remaining"] if data["status"] in _UNPAID else 0
    post = max(0, note.total_minor - open_minor)
    refund = min(post, _refundable_minor(note.invoice)) if note.to == CreditNote.To.CARD and post else 0
    parts = {"refund_amount": refund, "credit_amount": post - refund}
    return params | {name: minor for name, minor in parts.items() if minor}


def _refundable_minor(invoice: Invoice) -> int:
    """Return what is left of the charge that paid the invoice; nothing if a balance paid, or the bank disputes it."""
    paid = gateway.list_all("invoice_payments", {"invoice": invoice.stripe_invoice_id, "status": "paid"})
    intents_paid = [payment["payment"].get("payment_intent") for payment in paid]
    if len(intents_paid) != 1 or not intents_paid[0]:
        return 0
    charge = gateway.retrieve("payment_intents", intents_paid[0], expand=["latest_charge"])["latest_charge"]
    if not charge or charge["disputed"]:
        return 0
    return int(charge["amount_captured"] - charge["amount_refunded"])


def _receive_invoice(note: CreditNote, *, now: datetime) -> gateway.Object:
    data = gateway.retrieve("invoices", note.invoice.stripe_invoice_id)
    invoices.receive(data, now=now)
    return data


def _find(note: CreditNote) -> gateway.Object | None:
    """Return the note that a lost answer may have made."""
    listed = gateway.list_all("credit_notes", {"invoice": note.invoice.stripe_invoice_id})
    mine = str(note.public_id)
    return next((each for each in listed if (each.get("metadata") or {}).get("credit_note") == mine), None)
