"""The walk of an interim invoice through Stripe: draft, lines, finalize, charge.

Like the month's walk it trusts nothing to run once: every call starts from what Stripe has and repeats what is not
done. Once finalized it is Stripe's to collect, and nothing more is asked of the card by us.
"""

from datetime import date, datetime
from functools import partial
from typing import Any

import structlog
from django.core.cache import cache

from billing_portal.billing import charging, gateway, intents, interims, invoice_lines, invoices, locks
from billing_portal.billing.models import InterimInvoice, InterimLine, Invoice, InvoiceLine
from billing_portal.billing.receipts import sealing
from billing_portal.billing.tax import automatic, records
from billing_portal.ledger import accounts
from usage.models import Billable

log = structlog.get_logger(__name__)

State = InterimInvoice.State
# How often Stripe is asked about one that waits for its payment: its webhook may be lost, and usage may be stopped.
_ASK_AGAIN_SECONDS = 300


def advance(interim: InterimInvoice, *, now: datetime) -> bool:
    """Take an interim invoice as far as it can go now; True when nothing is left for us to do.

    What it waits for stands in `waiting_for`. One process at a time walks it; another one returns False at once.
    """
    with locks.attempt(f"interim:{interim.pk}") as held:
        if not held:
            return False
        try:
            _advance(interim, now=now)
            reason = ""
        except (gateway.Unavailable, gateway.RateLimited):
            reason = "Stripe cannot be reached."
        except (automatic.TaxWaits, intents.OutcomeUnknown, accounts.AccountFrozen) as error:
            reason = str(error)
        except gateway.Refused as error:
            log.error(
                "interim invoice refused",
                interim_id=interim.pk,
                organization_id=interim.organization_id,
                code=error.code,
            )
            reason = f"Stripe refused: {error}"
        InterimInvoice.objects.filter(pk=interim.pk).update(waiting_for=reason[:300])
    return not reason


def advance_waiting(*, now: datetime, limit: int = 200) -> int:
    """Write the interim invoices that are due, and advance all that are open; return how many had nothing left to do.

    One that fails is logged and keeps no other from going on (F24).
    """
    for organization_id in interims.near_the_limit(limit):
        interims.write_if_due(organization_id, now=now)
    waiting = InterimInvoice.objects.filter(state=State.OPEN).select_related("organization", "invoice").order_by("id")
    return sum(_advance_safely(interim, now=now) for interim in waiting[:limit] if _is_due(interim))


def finish(organization_id: int, month: date, *, now: datetime) -> str:
    """Bring the month's unfinished interim invoice to an end before the month is billed; return what is missing.

    One that Stripe refuses, or whose tax waits for an address, is given up, so that the month's own invoice bills what
    it covered.
    """
    interim = interims.being_made(organization_id)
    if interim is None or interim.month != month:
        return ""
    with locks.attempt(f"interim:{interim.pk}") as held:
        if not held:
            return "The month's interim invoice is being finalized."
        try:
            _advance(interim, now=now)
        except (automatic.TaxWaits, gateway.Refused):
            _discard(interim, now=now)
    return ""


def _is_due(interim: InterimInvoice) -> bool:
    waits_for_payment = interim.invoice is not None and interim.invoice.state in invoices.PAYABLE
    return not waits_for_payment or cache.add(f"billing.interim.{interim.pk}", 1, timeout=_ASK_AGAIN_SECONDS)


def _advance_safely(interim: InterimInvoice, *, now: datetime) -> bool:
    try:
        return advance(interim, now=now)
    except Exception:
        log.exception("interim invoice cannot advance", interim_id=interim.pk, organization_id=interim.organization_id)
        return False


def _advance(interim: InterimInvoice, *, now: datetime) -> None:
    """Walk on from what Stripe has now. Raises what the gateway and the intents raise."""
    interim.refresh_from_db()
    if interim.state != State.OPEN:
        return
    try:
        invoice = _draft(interim, now=now)
    except gateway.NotFound:
        # Somebody deleted the draft: nobody can finalize it any more.
        if interim.invoice is None:
            raise
        invoices.discard(interim.invoice, now=now)
        return
    if invoice.state == Invoice.State.DRAFT:
        for line in interim.lines.exclude(amount_minor=0).order_by("id"):
            _create_item(interim, invoice, line, now=now)
        automatic.check(invoice, now=now)
        sealing.anchor(invoice, now=now)
        invoice = charging.finalize(invoice, now=now)
    invoice_lines.store(invoice)
    records.store(invoice, now=now)
    if invoice.state != Invoice.State.VOID:
        sealing.seal(invoice, now=now)
    if invoice.state == Invoice.State.OPEN:
        charging.charge(invoice, now=now)


def _draft(interim: InterimInvoice, *, now: datetime) -> Invoice:
    """Return its Stripe invoice as it is now, drafted if it is not there yet, and linked before anything is on it."""
    reference = f"interim:{interim.public_id}"
    customer = interim.organization.customer
    stripe_id = intents.perform(
        organization=interim.organization,
        verb="create interim invoice",
        reference=reference,
        params=intents.recorded_params(reference) or _draft_params(interim),
        call=partial(gateway.create, "invoices"),
        look_up=lambda: _find(customer.stripe_customer_id, interim),
        again=True,
        now=now,
    )
    invoice = invoices.receive(gateway.retrieve("invoices", stripe_id), now=now)
    interims.link(interim, invoice)
    return invoice


def _draft_params(interim: InterimInvoice) -> dict[str, Any]:
    """Return what the draft is made of. It is taxed as the month's own invoice will be."""
    customer = interim.organization.customer
    return {
        "customer": customer.stripe_customer_id,
        "currency": interim.currency.lower(),
        "collection_method": "charge_automatically",
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "automatic_tax": {"enabled": automatic.is_wanted(customer)},
        "description": f"Usage of {interim.month:%B %Y} so far. It comes off that month's invoice.",
        "metadata": _metadata(interim),
    }


def _create_item(interim: InterimInvoice, invoice: Invoice, line: InterimLine, *, now: datetime) -> None:
    metadata = _metadata(interim) | {"line": str(InvoiceLine.Kind.INTERIM), "component": line.component}
    intents.perform(
        organization=interim.organization,
        verb="create interim line",
        reference=f"interim:{interim.public_id}:{line.component}",
        params={
            "customer": interim.organization.customer.stripe_customer_id,
            "invoice": invoice.stripe_invoice_id,
            "amount": line.amount_minor,
            "currency": interim.currency.lower(),
            "description": f"{Billable(line.component).label} · {interim.month:%B %Y} so far",
            "metadata": metadata,
        },
        call=partial(gateway.create, "invoice_items"),
        look_up=lambda: invoice_lines.find_item(invoice, metadata),
        again=True,
        now=now,
    )


def _metadata(interim: InterimInvoice) -> dict[str, str]:
    return {"interim": str(interim.public_id), "organization": str(interim.organization.public_id)}


def _find(stripe_customer_id: str, interim: InterimInvoice) -> gateway.Object | None:
    """Return the draft that a lost answer may have made."""
    mine = str(interim.public_id)
    found = gateway.list_all("invoices", {"customer": stripe_customer_id})
    return next((each for each in found if (each.get("metadata") or {}).get("interim") == mine), None)


def _discard(interim: InterimInvoice, *, now: datetime) -> None:
    """Delete the draft that Stripe refuses to finalize, if there is one, and give the interim invoice up."""
    interim.refresh_from_db()
    if interim.invoice is None:
        interims.give_up(interim, now=now)
        return
    invoice = interim.invoice
    intents.perform(
        organization=interim.organization,
        verb="delete interim invoice",
        reference=f"interim:{interim.public_id}:delete",
        params={},
        call=partial(gateway.act, "invoices", "delete", invoice.stripe_invoice_id),
        look_up=lambda: charging.retrieve_unless(invoice, "draft"),
        again=True,
        now=now,
    )
    invoices.discard(invoice, now=now)
