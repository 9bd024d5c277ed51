"""The payment of one invoice, as its page tells it: why it failed, what comes next, and with which card to pay."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing_portal.billing import attempts, declines, invoices
from billing_portal.billing.declines import Decline
from billing_portal.billing.models import Invoice, Overdue, PaymentAttempt, PaymentMethod
from billing_portal.ledger import authorization, standing
from billing_portal.ledger.standing import Standing
from billing_portal.portal.arrears import Unpaid


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt in the past, in words."""

    title: str
    at: datetime
    reason: str = ""
    succeeded: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """When usage stops for want of a payment: at `at`, and before that as soon as more is owed than may be."""

    at: datetime
    is_here: bool
    owes_too_much: bool
    standing: Standing


@dataclass(frozen=True, slots=True)
class Payment:
    """What the page shows. `next_attempt_at` is None where Stripe will not charge the card again by itself."""

    invoice: Invoice
    overdue: Overdue | None
    decline: Decline | None
    attempt: PaymentAttempt | None
    steps: list[Step]
    cards: list[PaymentMethod]
    next_attempt_at: datetime | None
    stop: Stop | None
    key: UUID

    @property
    def asks_owner(self) -> bool:
        """Say whether the bank waits for the card's owner."""
        return self.invoice.open_minor > 0 and bool(self.overdue and self.overdue.asks_owner)


def of(invoice: Invoice, *, now: datetime) -> Payment:
    """Return how far the payment of an invoice is; a few indexed reads."""
    tried = list(PaymentAttempt.objects.filter(invoice=invoice)[:50])
    overdue = overdue_of(invoice)
    failed = next((each for each in tried if each.state == PaymentAttempt.State.FAILED), None)
    cards = list(PaymentMethod.objects.filter(organization=invoice.organization_id, removed_at=None))
    decline = _decline(overdue, failed, cards)
    return Payment(
        invoice=invoice,
        overdue=overdue,
        decline=decline,
        attempt=failed,
        steps=[_step(each) for each in tried],
        cards=cards,
        next_attempt_at=_next_attempt(invoice, decline, failed, cards),
        stop=stop_of(invoice, overdue, now=now),
        key=Unpaid(invoice).key,
    )


def overdue_of(invoice: Invoice) -> Overdue | None:
    """Return the overdue invoice of an invoice, if its payment ever failed."""
    return Overdue.objects.filter(invoice=invoice).first()


def stop_of(invoice: Invoice, overdue: Overdue | None, *, now: datetime) -> Stop | None:
    """Return when usage stops for want of this payment; None where it never failed, or is not wanted any more."""
    if overdue is None or overdue.ended_at is not None or not invoice.open_minor:
        return None
    stands = standing.of(invoice.organization_id, now=now)
    return Stop(overdue.stops_at, overdue.stops_at <= now, authorization.owes_too_much(stands), stands)


def _decline(overdue: Overdue | None, failed: PaymentAttempt | None, cards: list[PaymentMethod]) -> Decline | None:
    if overdue is None or overdue.ended_at is not None:
        return None
    if overdue.asks_owner:
        return declines.of(code="authentication_required")
    if failed is not None:
        return attempts.decline_of(failed)
    return None if cards else declines.NO_CARD


def _next_attempt(
    invoice: Invoice, decline: Decline | None, failed: PaymentAttempt | None, cards: list[PaymentMethod]
) -> datetime | None:
    """Return when the default card is charged again: the one that was refused for good is left alone."""
    if invoice.state not in invoices.PAYABLE or not cards or (decline is not None and decline.asks_owner):
        return None
    default = next((card for card in cards if card.is_default), None)
    is_same = failed is not None and default is not None and default.fingerprint == failed.fingerprint
    return None if is_same and decline and not decline.may_recover else invoice.next_payment_attempt_at


def _step(attempt: PaymentAttempt) -> Step:
    card = attempt.card or "A payment"
    if attempt.state == PaymentAttempt.State.SUCCEEDED:
        return Step(f"{card} was charged", attempt.attempted_at, succeeded=True)
    if attempt.state == PaymentAttempt.State.PENDING:
        return Step(f"{card} is being charged", attempt.attempted_at)
    return Step(f"{card} was declined", attempt.attempted_at, attempts.decline_of(attempt).reason)
