"""Tax ids: checked here, then given to Stripe's customer, which looks some of them up in official registers.

Stripe knows no change of a tax id: another number is another tax id.
"""

from datetime import datetime
from functools import partial

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Organization, User
from billing_portal.billing import customers, gateway, intents, locks
from billing_portal.billing.models import Customer, TaxId
from billing_portal.billing.tax import id_formats
from billing_portal.billing.tax.id_formats import TaxIdRefused

log = structlog.get_logger(__name__)

State, Verification = TaxId.State, TaxId.Verification
# Stripe takes five a customer.
MOST = 5


class TooMany(Exception):
    """The organization has as many tax ids as Stripe takes of one customer."""


def of(organization: Organization) -> QuerySet[TaxId]:
    """Return the tax ids that stand on the next invoice, or are on their way there."""
    return TaxId.objects.filter(organization=organization, state__in=TaxId.OPEN).order_by("id")


def add(organization: Organization, *, user: User, country: str, type_: str, value: str, now: datetime) -> TaxId:
    """Return the tax id, recorded if it is not held yet; `send` gives it to Stripe. Raises TaxIdRefused, TooMany."""
    checked = id_formats.check(country, type_, value)
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        held = of(organization)
        known = held.filter(type=type_, value=checked).first()
        if known is not None:
            return known
        if held.count() >= MOST:
            raise TooMany
        if TaxId.objects.filter(organization=organization, type=type_, value=checked, deleted_at=None).filter(
            state=State.REMOVED
        ):
            raise TaxIdRefused("This number is being removed at this moment. Add it again in a minute.")
        return TaxId.objects.create(
            organization=organization, type=type_, value=checked, country=country, added_by=user, added_at=now
        )


def remove(tax_id: TaxId, *, user: User, now: datetime) -> None:
    """Take a tax id off the invoices to come; `send` tells Stripe. Doing it twice is doing it once."""
    still = TaxId.objects.filter(pk=tax_id.pk, state__in=TaxId.OPEN)
    still.update(state=State.REMOVED, removed_at=now, removed_by=user)
    tax_id.refresh_from_db()


def send(tax_id: TaxId, *, now: datetime) -> TaxId:
    """Give a tax id to Stripe, or take a removed one from it, once. Raises TaxIdRefused, and what intents raise."""
    with locks.attempt(f"tax_id:{tax_id.pk}") as held:
        tax_id.refresh_from_db()
        if held and tax_id.state == State.ASKED:
            _create(tax_id, now=now)
        if held and tax_id.state == State.REMOVED and tax_id.deleted_at is None:
            _delete(tax_id, now=now)
    return tax_id


def send_waiting(*, now: datetime, limit: int = 200) -> int:
    """Send what was never sent, or whose answer was lost; return how many were (F24)."""
    unsent = Q(state=State.ASKED) | Q(state=State.REMOVED, deleted_at=None)
    waiting = TaxId.objects.filter(unsent).select_related("organization").order_by("id")
    return sum(_send_safely(tax_id, now=now) for tax_id in waiting[:limit])


def receive(stripe_tax_id: gateway.Object, *, now: datetime) -> TaxId | None:
    """Take over what Stripe says of a tax id, also of one that somebody gave it there; None for a stranger's."""
    known = TaxId.objects.filter(stripe_tax_id=stripe_tax_id["id"]).first()
    if stripe_tax_id.get("deleted"):
        return known and _note_gone(known, now=now)
    customer_id = stripe_tax_id.get("customer") or ""
    customer = Customer.objects.filter(stripe_customer_id=customer_id).select_related("organization").first()
    if customer is None:
        return None
    if known is None:
        known = _taken_over(customer.organization, stripe_tax_id, now=now)
    _copy(known, stripe_tax_id)
    return known


def look_again(*, now: datetime, limit: int = 200) -> int:
    """Ask Stripe about tax ids that it is still verifying, as a webhook may be lost; return how many changed."""
    pending = TaxId.objects.filter(state=State.HELD, verification=Verification.PENDING)
    changed = 0
    for tax_id in pending.select_related("organization__customer").order_by("id")[:limit]:
        for theirs in gateway.list_tax_ids(tax_id.organization.customer.stripe_customer_id):
            if theirs["id"] == tax_id.stripe_tax_id:
                _copy(tax_id, theirs)
        changed += tax_id.verification != Verification.PENDING
    return changed


def _send_safely(tax_id: TaxId, *, now: datetime) -> bool:
    try:
        send(tax_id, now=now)
    except TaxIdRefused:
        return True
    except Exception:
        log.exception("tax id cannot be sent", tax_id=tax_id.pk, organization_id=tax_id.organization_id)
        return False
    return True


def _create(tax_id: TaxId, *, now: datetime) -> None:
    customer = customers.ensure(tax_id.organization, now=now)
    try:
        intents.perform(
            organization=tax_id.organization,
            verb="create tax id",
            reference=f"tax_id:{tax_id.public_id}",
            params={"type": tax_id.type, "value": tax_id.value},
            call=partial(gateway.create_tax_id, customer.stripe_customer_id),
            look_up=lambda: _find(customer, tax_id),
            again=True,
            now=now,
        )
    except gateway.Refused as error:
        tax_id.state, tax_id.failure = State.REFUSED, error.message[:300]
        tax_id.save(update_fields=["state", "failure"])
        raise TaxIdRefused("Stripe does not take this number. Look at it again, and at its country.") from error
    found = _find(customer, tax_id)
    if found is not None:
        _copy(tax_id, found)


def _delete(tax_id: TaxId, *, now: datetime) -> None:
    customer = Customer.objects.filter(organization=tax_id.organization, deleted_at=None).first()
    found = _find(customer, tax_id) if customer else None
    if customer and found:
        intents.perform(
            organization=tax_id.organization,
            verb="delete tax id",
            reference=f"tax_id:{tax_id.public_id}:delete",
            params={},
            call=partial(_delete_at_stripe, customer.stripe_customer_id, found["id"]),
            look_up=lambda: None if _find(customer, tax_id) else {"id": found["id"]},
            again=True,
            now=now,
        )
    TaxId.objects.filter(pk=tax_id.pk).update(deleted_at=now)
    tax_id.refresh_from_db()


def _delete_at_stripe(customer_id: str, stripe_id: str, params: dict[str, str], key: str) -> gateway.Object:
    try:
        return gateway.delete_tax_id(customer_id, stripe_id, params, key)
    except gateway.NotFound:
        return {"id": stripe_id}


def _find(customer: Customer, tax_id: TaxId) -> gateway.Object | None:
    theirs = gateway.list_tax_ids(customer.stripe_customer_id)
    wanted = (tax_id.type, tax_id.value)
    return next((each for each in theirs if (each["type"], each["value"]) == wanted), None)


def _taken_over(organization: Organization, data: gateway.Object, *, now: datetime) -> TaxId:
    """Return the row of a tax id that Stripe has, and nobody here knows by its id yet."""
    mine = TaxId.objects.filter(organization=organization, type=data["type"], value=data["value"])
    known = mine.filter(state__in=[State.ASKED, State.REMOVED], stripe_tax_id=None).first()
    return known or TaxId(
        organization=organization,
        type=data["type"],
        value=data["value"],
        country=data.get("country") or "",
        added_at=now,
    )


def _copy(tax_id: TaxId, data: gateway.Object) -> None:
    """Take over what Stripe says. What somebody removed meanwhile stays removed."""
    verification = data.get("verification") or {}
    said = {
        "stripe_tax_id": data["id"],
        "verification": verification.get("status") or Verification.UNAVAILABLE,
        "verified_name": (verification.get("verified_name") or "")[:300],
        "verified_address": (verification.get("verified_address") or "")[:500],
    }
    if tax_id.pk is None:
        tax_id.save()
    mine = TaxId.objects.filter(pk=tax_id.pk)
    mine.update(**said)
    mine.filter(state=State.ASKED).update(state=State.HELD)
    tax_id.refresh_from_db()


def _note_gone(tax_id: TaxId, *, now: datetime) -> TaxId:
    """Note that Stripe has it no more, whoever removed it."""
    if tax_id.state in TaxId.OPEN:
        tax_id.state, tax_id.removed_at = State.REMOVED, now
    tax_id.deleted_at = tax_id.deleted_at or now
    tax_id.save()
    return tax_id
