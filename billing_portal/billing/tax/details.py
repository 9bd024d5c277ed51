"""Whom an organization's invoices are made out to: versions here, and the newest of them at Stripe.

A version is written and committed, then sent. What somebody enters at Stripe itself, in Checkout or its customer
portal, comes back as a version too. A lost answer, and a webhook that never came, are repaired by `send_waiting`.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from accounts.models import Organization, User
from billing_portal.billing import customers, gateway, intents, locks
from billing_portal.billing.models import BillingDetails, Customer, DetailsAtStripe
from billing_portal.billing.tax import addresses

log = structlog.get_logger(__name__)

Location = DetailsAtStripe.Location
# Places that Stripe finds on its map, whether or not tax is due there.
PLACED = frozenset({Location.SUPPORTED, Location.NOT_COLLECTING})
_ADDRESS = ("line1", "line2", "city", "region", "postal_code", "country")
# What the field of an invoice is called.
PURCHASE_ORDER = "Purchase order"
_TRIES = 3


# ── What is known here ────────────────────────────────────────────────────────────────────────────────────────────────


def current(organization: Organization) -> BillingDetails | None:
    """Return the version that the next invoice is made with; None while there is none."""
    return BillingDetails.objects.filter(organization=organization).order_by("-version").first()


def are_missing(organization: Organization) -> bool:
    """Say whether an address has to be given before the first charge: tax is to be worked out, and nobody gave one."""
    return settings.AUTOMATIC_TAX and current(organization) is None


def at_stripe(organization: Organization) -> DetailsAtStripe | None:
    """Return what Stripe has of them; None before it was first told."""
    return DetailsAtStripe.objects.filter(organization=organization).select_related("details", "refused").first()


def change(
    organization: Organization,
    *,
    user: User | None,
    legal_name: str,
    address: Mapping[str, str],
    purchase_order: str = "",
    now: datetime,
    origin: BillingDetails.Origin = BillingDetails.Origin.PORTAL,
) -> BillingDetails:
    """Return the version that says this, written if the newest one does not; it counts from the next final invoice on.

    `address` is one that `addresses.check` returned. Stripe is not told yet: see `send`.
    """
    said = {name: address.get(name, "") for name in _ADDRESS}
    said |= {"legal_name": legal_name, "purchase_order": purchase_order}
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        newest = current(organization)
        if newest is not None and all(getattr(newest, name) == value for name, value in said.items()):
            return newest
        version = newest.version + 1 if newest else 1
        made = BillingDetails.objects.create(
            organization=organization, version=version, origin=origin, made_by=user, made_at=now, **said
        )
    log.info("billing details changed", organization_id=organization.pk, version=version, origin=str(origin))
    return made


# ── At Stripe ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def send(organization: Organization, *, now: datetime) -> bool:
    """Bring Stripe's customer to the newest version; True when nothing is left to do. One process at a time is at it.

    Stripe's refusal of the place stands in `DetailsAtStripe.failure`. Raises customers.CustomerDeleted, and what
    intents.perform raises beside a refusal.
    """
    with locks.attempt(f"billing_details:{organization.pk}") as held:
        if not held:
            return False
        for _ in range(_TRIES):
            organization.refresh_from_db()
            if not _is_due(organization):
                return True
            _send_once(organization, now=now)
    return not _is_due(organization)


def send_waiting(*, now: datetime, limit: int = 200) -> int:
    """Send what was never sent, or whose answer was lost; return how many came to their end (F24)."""
    return sum(_send_safely(organization, now=now) for organization in _waiting()[:limit])


def receive(stripe_customer: gateway.Object, *, now: datetime) -> BillingDetails | None:
    """Take over a name and an address that somebody entered at Stripe, as a version; None where there is nothing new.

    What is on its way to Stripe from here stands: it was entered later, or overwrites what it was entered against.
    """
    customer = Customer.objects.filter(stripe_customer_id=stripe_customer["id"]).select_related("organization").first()
    if customer is None or stripe_customer.get("deleted"):
        return None
    organization = customer.organization
    address = _address_of(stripe_customer)
    newest, known = current(organization), at_stripe(organization)
    is_on_its_way = newest is not None and (known is None or known.details_id != newest.pk)
    if not address["country"] or is_on_its_way or (newest is not None and is_at(newest, stripe_customer)):
        return None
    # It is sent as any other, so that Stripe says whether it finds the place.
    return change(
        organization,
        user=None,
        legal_name=stripe_customer.get("name") or organization.name,
        address=address,
        purchase_order=newest.purchase_order if newest else "",
        origin=BillingDetails.Origin.STRIPE,
        now=now,
    )


def _waiting() -> QuerySet[Organization]:
    """Return the organizations whose newest version, or whose billing address, Stripe does not have."""
    newest = BillingDetails.objects.filter(organization=OuterRef("pk")).order_by("-version").values("pk")[:1]
    known = DetailsAtStripe.objects.filter(organization=OuterRef("pk"))
    return (
        Organization.objects.filter(Exists(BillingDetails.objects.filter(organization=OuterRef("pk"))))
        .exclude(customer__deleted_at__isnull=False)
        .annotate(newest=Subquery(newest))
        .annotate(sent=Subquery(known.values("details")[:1]), refused=Subquery(known.values("refused")[:1]))
        .annotate(emailed=Subquery(known.values("email")[:1]))
        .exclude(Q(refused=F("newest")) & Q(refused__isnull=False))
        .filter(Q(sent=None) | ~Q(sent=F("newest")) | (~Q(billing_email="") & ~Q(emailed=F("billing_email"))))
        .order_by("pk")
    )


def _send_safely(organization: Organization, *, now: datetime) -> bool:
    try:
        return send(organization, now=now)
    except Exception:
        log.exception("billing details cannot be sent", organization_id=organization.pk)
        return False


def _is_due(organization: Organization) -> bool:
    newest, known = current(organization), at_stripe(organization)
    if newest is None or (known is not None and known.refused_id == newest.pk):
        return False
    wanted = organization.billing_email
    return known is None or known.details_id != newest.pk or (wanted != "" and known.email != wanted)


def _send_once(organization: Organization, *, now: datetime) -> None:
    newest = current(organization)
    assert newest is not None
    customer = customers.ensure(organization, now=now)
    known, _ = DetailsAtStripe.objects.get_or_create(organization=organization)
    reference = f"customer:{organization.public_id}:details:{known.sends}"
    try:
        intents.perform(
            organization=organization,
            verb="update customer",
            reference=reference,
            params=intents.recorded_params(reference) or _params(newest, organization),
            call=partial(gateway.update, "customers", customer.stripe_customer_id),
            # The same values again do no harm, whenever they come: there is nothing to look up.
            look_up=lambda: None,
            again=True,
            now=now,
        )
    except gateway.Refused as error:
        known.refused, known.failure = newest, error.message[:300]
        known.save(update_fields=["refused", "failure"])
        return
    _note_sent(known, newest, customer)


def _note_sent(known: DetailsAtStripe, newest: BillingDetails, customer: Customer) -> None:
    """Note what Stripe's customer says by now: an answer that was lost may have been that of an earlier version."""
    found = gateway.retrieve("customers", customer.stripe_customer_id, expand=["tax"])
    known.sends += 1
    known.email = found.get("email") or ""
    known.location = _location(found)
    if is_at(newest, found):
        known.details, known.refused, known.failure = newest, None, ""
    known.save(update_fields=["sends", "email", "location", "details", "refused", "failure"])


def _params(newest: BillingDetails, organization: Organization) -> dict[str, Any]:
    address = {name: getattr(newest, name) for name in ("line1", "line2", "city", "postal_code", "country")}
    params: dict[str, Any] = {"name": newest.legal_name, "address": address | {"state": newest.region}}
    if settings.AUTOMATIC_TAX:
        params["tax"] = {"validate_location": "immediately"}
    return params | ({"email": organization.billing_email} if organization.billing_email else {})


def is_at(newest: BillingDetails, stripe_customer: gateway.Object) -> bool:
    """Say whether a Stripe customer, or who stands on an invoice, is named and addressed as a version says."""
    theirs = _address_of(stripe_customer) | {"legal_name": stripe_customer.get("name") or ""}
    return all(getattr(newest, name) == value for name, value in theirs.items())


def _address_of(stripe_customer: gateway.Object) -> dict[str, str]:
    theirs = stripe_customer.get("address") or {}
    kept = {name: theirs.get("state" if name == "region" else name) or "" for name in _ADDRESS}
    return kept | {"country": kept["country"].upper()}


def _location(stripe_customer: gateway.Object) -> str:
    """Return whether Stripe finds the place; unknown where the object does not carry it."""
    return (stripe_customer.get("tax") or {}).get("automatic_tax") or Location.UNKNOWN


def custom_fields(details: BillingDetails) -> list[dict[str, str]]:
    """Return what stands on an invoice beside the address, as Stripe takes it."""
    return [{"name": PURCHASE_ORDER, "value": details.purchase_order}] if details.purchase_order else []


def lines(details: BillingDetails) -> list[str]:
    """Return the address as it is written on a letter."""
    return addresses.lines({name: getattr(details, name) for name in _ADDRESS})
