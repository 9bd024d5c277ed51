"""The walk of a purchase through Stripe, from what was asked to what was paid.

Like the month's walk it trusts nothing to run once: every call starts from what Stripe has now and repeats what is not
done, each write under its own intent.
"""

from datetime import datetime, timedelta

import structlog

from billing_portal.billing import customers, gateway, locks, purchase_checkout, purchase_invoices, purchases
from billing_portal.billing.models import Intent, Purchase
from billing_portal.billing.tax import automatic
from billing_portal.ledger import accounts

log = structlog.get_logger(__name__)

State, Way = Purchase.State, Purchase.Way
_LOOK_AGAIN_AFTER = timedelta(minutes=1)
_LOOK_AT_PEOPLE_AFTER = timedelta(minutes=5)
_LOOK_AT_TROUBLE_AFTER = timedelta(hours=1)
_TAX_AWAITED_FOR = timedelta(days=1)


def advance(purchase: Purchase, *, now: datetime) -> bool:
    """Take a purchase as far as it can go now; True when nothing is left to do. One process at a time walks it."""
    with locks.attempt(f"purchase:{purchase.pk}") as held:
        if not held:
            return False
        purchase.refresh_from_db()
        try:
            _walk(purchase, now=now)
        except (gateway.Unavailable, gateway.RateLimited):
            log.warning("purchase waits for stripe", purchase_id=purchase.pk, organization_id=purchase.organization_id)
        except accounts.AccountFrozen:
            log.warning("purchase waits", purchase_id=purchase.pk, organization_id=purchase.organization_id)
        except purchases.PaymentMismatch:
            log.exception("purchase needs a person", purchase_id=purchase.pk, organization_id=purchase.organization_id)
            Purchase.objects.filter(pk=purchase.pk).update(due_at=now + _LOOK_AT_TROUBLE_AFTER)
        _plan(purchase, now=now)
    return purchase.due_at is None


def advance_waiting(*, now: datetime, limit: int = 200) -> int:
    """Advance every purchase that is due; return how many came to their end (F20).

    One that fails is logged and keeps no other from going on (F24).
    """
    due = Purchase.objects.filter(due_at__lte=now).select_related("organization").order_by("due_at", "id")
    return sum(_advance_safely(purchase, now=now) for purchase in due[:limit])


def _advance_safely(purchase: Purchase, *, now: datetime) -> bool:
    try:
        return advance(purchase, now=now)
    except Exception:
        log.exception("purchase cannot advance", purchase_id=purchase.pk, organization_id=purchase.organization_id)
        return False


def _plan(purchase: Purchase, *, now: datetime) -> None:
    """Say when to look again, unless that is said already: soon, or now and then while a person is at it."""
    purchase.refresh_from_db()
    if purchase.due_at is None or purchase.due_at > now:
        return
    waits_for_person = purchase.state == State.NEEDS_ACTION or purchase.way == Way.CHECKOUT
    later = now + (_LOOK_AT_PEOPLE_AFTER if waits_for_person else _LOOK_AGAIN_AFTER)
    Purchase.objects.filter(pk=purchase.pk, due_at__lte=now).update(due_at=later)
    purchase.refresh_from_db()


def _walk(purchase: Purchase, *, now: datetime) -> None:
    """Go on; what Stripe refuses for good is given up and closed."""
    try:
        _advance(purchase, now=now)
    except automatic.TaxWaits as waits:
        _wait_for_tax(purchase, str(waits), now=now)
    except (gateway.Refused, customers.CustomerDeleted) as error:
        log.error("purchase refused", purchase_id=purchase.pk, organization_id=purchase.organization_id, exc_info=True)
        purchases.give_up(purchase, failure=f"It could not be charged: {error}", now=now)
        _advance(purchase, now=now)


def _wait_for_tax(purchase: Purchase, reason: str, *, now: datetime) -> None:
    """Wait a day for what the tax needs: nothing is owed for a purchase, so it is not sold without."""
    if now >= purchase.asked_at + _TAX_AWAITED_FOR:
        purchases.give_up(purchase, failure=reason, now=now)
        _advance(purchase, now=now)
    else:
        Purchase.objects.filter(pk=purchase.pk).update(failure=reason[:300], due_at=now + _LOOK_AT_PEOPLE_AFTER)


def _advance(purchase: Purchase, *, now: datetime) -> None:
    if purchase.state == State.PAID:
        purchases.credit(purchase, now=now)
    if purchase.is_given_up and purchase.is_open and not _was_sent(purchase):
        purchases.end(purchase, now=now)
    elif purchase.is_open or purchase.due_at is not None:
        purchases.move(purchase, State.PAYING, now=now)
        way = purchase_checkout if purchase.way == Way.CHECKOUT else purchase_invoices
        way.advance(purchase, now=now)


def _was_sent(purchase: Purchase) -> bool:
    """Say whether Stripe may have heard of it."""
    first = [f"{purchase.reference}:invoice", f"{purchase.reference}:session"]
    return Intent.objects.filter(reference__in=first).exclude(state=Intent.State.FAILED).exists()
