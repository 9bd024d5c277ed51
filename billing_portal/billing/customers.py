"""Organizations as Stripe knows them: one customer and one subscription each."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from accounts.models import Membership, Organization
from billing_portal.billing import cycles, gateway, intents, meters
from billing_portal.billing.models import Customer, MeterPrice

log = structlog.get_logger(__name__)


class CustomerDeleted(Exception):
    """The customer was deleted at Stripe, which cannot be undone: a person has to decide."""

    def __init__(self, customer: Customer) -> None:
        super().__init__(f"{customer.stripe_customer_id} was deleted at Stripe.")
        self.customer = customer


def ensure(organization: Organization, *, now: datetime) -> Customer:
    """Return the organization's customer, made at Stripe if it is not there yet; twice at once makes one.

    Raises CustomerDeleted, and what intents.perform raises.
    """
    customer = Customer.objects.filter(organization=organization).first()
    if customer is not None and customer.deleted_at:
        raise CustomerDeleted(customer)
    if customer is not None:
        return customer
    reference = f"customer:{organization.public_id}"
    stripe_id = intents.perform(
        organization=organization,
        verb="customers.create",
        reference=reference,
        params=intents.recorded_params(reference) or _customer_params(organization),
        call=partial(gateway.create, "customers"),
        look_up=partial(_find_customer, organization),
        now=now,
        again=True,
    )
    customer, is_new = Customer.objects.get_or_create(
        organization=organization, defaults={"stripe_customer_id": stripe_id, "created_at": now}
    )
    if is_new:
        log.info("customer made", organization_id=organization.pk, stripe_customer_id=stripe_id)
    return customer


def subscribe(organization: Organization, *, now: datetime) -> Customer:
    """Return the organization's customer, subscribed to the meter of every component.

    The subscription bills from `now` on and is anchored on the next day 1 at 12:00 UTC, when every zone's month has
    ended. It is made before the first report: Stripe bills no usage from before an item was on it.
    Raises CustomerDeleted, and what intents.perform raises.
    """
    customer = ensure(organization, now=now)
    if customer.stripe_subscription_id:
        return customer
    prices = meters.ensure(organization.currency, now=now)
    reference = f"subscription:{organization.public_id}"
    stripe_id = intents.perform(
        organization=organization,
        verb="subscriptions.create",
        reference=reference,
        params=intents.recorded_params(reference) or _subscription_params(organization, customer, prices, now),
        call=partial(gateway.create, "subscriptions"),
        look_up=partial(_find_subscription, organization, customer),
        now=now,
        again=True,
    )
    unsubscribed = Customer.objects.filter(pk=customer.pk, stripe_subscription_id=None)
    if unsubscribed.update(stripe_subscription_id=stripe_id, subscribed_at=now):
        log.info("customer subscribed", organization_id=organization.pk, stripe_subscription_id=stripe_id)
    customer.refresh_from_db()
    return customer


def is_taxed(customer: Customer) -> bool:
    """Ask Stripe whether it works out tax for this customer: what its subscription says holds for everything."""
    if not customer.stripe_subscription_id:
        return False
    subscription = gateway.retrieve("subscriptions", customer.stripe_subscription_id)
    return bool((subscription.get("automatic_tax") or {}).get("enabled"))


def billing_portal_session_url(organization: Organization, return_url: str) -> str:
    """Return the address of a fresh session in Stripe's own customer portal; it is good for one visit."""
    customer = Customer.objects.get(organization=organization)
    params = {"customer": customer.stripe_customer_id, "return_url": return_url}
    return str(gateway.create("billing_portal.sessions", params, str(uuid.uuid4()))["url"])


def receive_deleted(stripe_customer: gateway.Object, *, now: datetime) -> None:
    """Note that Stripe's customer is gone: its cards went with it, our books stay (F40)."""
    customer = Customer.objects.filter(stripe_customer_id=stripe_customer["id"], deleted_at=None).first()
    if customer is None or not stripe_customer.get("deleted"):
        return
    customer.deleted_at = now
    customer.save(update_fields=["deleted_at"])
    customer.organization.payment_methods.filter(removed_at=None).update(removed_at=now, is_default=False)
    log.error("customer deleted at stripe", organization_id=customer.organization_id, customer_id=customer.pk)


def _customer_params(organization: Organization) -> dict[str, Any]:
    params = {"name": organization.name, "metadata": _metadata(organization)}
    email = organization.billing_email or _email_of_owner(organization)
    return {**params, "email": email} if email else params


def _subscription_params(
    organization: Organization, customer: Customer, prices: Sequence[MeterPrice], now: datetime
) -> dict[str, Any]:
    _, anchor = cycles.bounds(cycles.month_at(now))
    return {
        "customer": customer.stripe_customer_id,
        "items": [{"price": price.stripe_price_id} for price in prices],
        "currency": organization.currency.lower(),
        "billing_cycle_anchor": int(anchor.timestamp()),
        "proration_behavior": "none",
        "collection_method": "charge_automatically",
        "off_session": True,
        "metadata": _metadata(organization),
    }


def _metadata(organization: Organization) -> dict[str, str]:
    return {"organization": str(organization.public_id), "reference": organization.reference}


def _email_of_owner(organization: Organization) -> str:
    owners = organization.memberships.filter(role=Membership.Role.OWNER).select_related("user").order_by("id")
    owner = owners.first()
    return owner.user.email if owner else ""


def _find_customer(organization: Organization) -> gateway.Object | None:
    """Return the customer that a lost answer may have made. Stripe filters by e-mail only; metadata tells which."""
    return _first_of(organization, "customers", {})


def _find_subscription(organization: Organization, customer: Customer) -> gateway.Object | None:
    return _first_of(organization, "subscriptions", {"customer": customer.stripe_customer_id, "status": "all"})


def _first_of(organization: Organization, kind: gateway.Kind, params: dict[str, Any]) -> gateway.Object | None:
    mine = str(organization.public_id)
    found = (o for o in gateway.list_all(kind, params) if (o.get("metadata") or {}).get("organization") == mine)
    return next(found, None)
