"""The last two steps of every invoice we make: finalize the draft, charge it once.

From there on Stripe collects: after a decline it tries again by its own schedule, and gives up by itself.
"""

from datetime import datetime
from functools import partial

import structlog

from billing_portal.billing import cards, declines, gateway, intents, invoices
from billing_portal.billing.declines import Decline
from billing_portal.billing.models import Invoice, PaymentMethod

log = structlog.get_logger(__name__)


class PaymentRefused(Exception):
    """The card was not charged: declined, missing, or its owner has to confirm at Stripe. The invoice stays open."""

    def __init__(self, invoice: Invoice, decline: Decline) -> None:
        super().__init__(decline.reason)
        self.invoice = invoice
        self.decline = decline


class NotPayable(Exception):
    """The invoice is a draft, void, or paid already: nothing can be charged for it."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"This invoice is {invoice.get_state_display().lower()}; nothing is left to pay.")
        self.invoice = invoice


def finalize(invoice: Invoice, *, now: datetime) -> Invoice:
    """Finalize the draft, and let Stripe collect and retry from here on. Raises gateway.Refused (a missing address)."""
    intents.perform(
        organization=invoice.organization,
        verb="finalize invoice",
        reference=f"finalize:{invoice.stripe_invoice_id}",
        params={"auto_advance": True},
        call=partial(gateway.act, "invoices", "finalize_invoice", invoice.stripe_invoice_id),
        look_up=lambda: retrieve_unless(invoice, "draft"),
        again=True,
        now=now,
    )
    return _received(invoice, now=now)


def charge(invoice: Invoice, *, now: datetime) -> Invoice:
    """Charge the default card once, off session. A decline is no error: the invoice stays open to Stripe's retries."""
    cards.drop_refused(invoice.organization, now=now)
    try:
        _pay(invoice, reference=pay_reference(invoice), off_session=True, now=now)
    except gateway.Refused as error:
        log.info("payment declined", invoice_id=invoice.pk, organization_id=invoice.organization_id, code=error.code)
    return _received(invoice, now=now)


def pay_now(invoice: Invoice, *, key: str, now: datetime, method: PaymentMethod | None = None) -> Invoice:
    """Charge a card because somebody asked for it, once per `key`, which is minted with the form (F27).

    Without a `method` it is the default card. Raises PaymentRefused, NotPayable, and gateway.Unavailable: then nobody
    knows yet, and the same key may be repeated.
    """
    if invoice.state not in invoices.PAYABLE:
        raise NotPayable(invoice)
    dropped = cards.drop_refused(invoice.organization, now=now)
    if dropped and (method is None or method in dropped):
        raise PaymentRefused(invoice, declines.PREPAID)
    try:
        reference = ":".join([pay_reference(invoice), key, *([str(method.pk)] if method else [])])
        _pay(invoice, reference=reference, off_session=False, method=method, now=now)
    except gateway.Refused as error:
        # Somebody or something may have paid it a moment before.
        received = _received(invoice, now=now)
        if received.state in invoices.PAYABLE:
            raise PaymentRefused(received, declines.of(code=error.code, decline_code=error.decline_code)) from error
        return received
    return _received(invoice, now=now)


def form_secret(invoice: Invoice) -> str:
    """Return the secret with which Stripe's own form pays the invoice, once, with a card that is not saved or by Link.

    It is of the invoice's one payment, so whoever pays first, here or elsewhere, pays it alone. Raises NotPayable, and
    what the gateway raises.
    """
    if invoice.state not in invoices.PAYABLE:
        raise NotPayable(invoice)
    found = gateway.retrieve("invoices", invoice.stripe_invoice_id, expand=["confirmation_secret"])
    secret = (found.get("confirmation_secret") or {}).get("client_secret")
    if not secret:
        raise NotPayable(invoice)
    return str(secret)


def look(invoice: Invoice, *, now: datetime) -> Invoice:
    """Take the invoice over as it is at Stripe just now, for a person who comes back from paying it."""
    return _received(invoice, now=now)


def pay_reference(invoice: Invoice) -> str:
    """Return the reference of our one attempt to charge an invoice."""
    return f"pay:{invoice.stripe_invoice_id}"


def retrieve_unless(invoice: Invoice, status: str) -> gateway.Object | None:
    """Return the invoice if Stripe has it in another state than `status`: the write that leaves it had its effect."""
    found = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    return found if found["status"] != status else None


def _pay(
    invoice: Invoice, *, reference: str, off_session: bool, now: datetime, method: PaymentMethod | None = None
) -> None:
    chosen = {"payment_method": method.stripe_payment_method_id} if method else {}
    intents.perform(
        organization=invoice.organization,
        verb="pay invoice",
        reference=reference,
        params={"off_session": off_session, **chosen},
        call=partial(gateway.act, "invoices", "pay", invoice.stripe_invoice_id),
        look_up=lambda: retrieve_unless(invoice, "open"),
        now=now,
    )


def _received(invoice: Invoice, *, now: datetime) -> Invoice:
    return invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=now)
