"""Our rows of saved cards, and what Stripe must hold alike: which are attached, and which is charged.

Rows change under the lock of the organization's Customer row. Stripe is told afterwards, outside of the transaction.
"""

import uuid
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.models import Organization
from billing_portal.billing import gateway, intents
from billing_portal.billing.models import CardSetup, Customer, PaymentMethod

# More than two means that two people are choosing against each other right now.
_ATTEMPTS_TO_AGREE = 3


def is_prepaid(details: gateway.Object) -> bool:
    """Say whether a Stripe payment method is a prepaid card that we refuse; Radar's rule may not cover saved cards."""
    return is_refused((details.get("card") or {}).get("funding") or "")


def is_refused(funding: str) -> bool:
    """Say whether cards of this funding are not charged."""
    return settings.PREPAID_CARDS_REFUSED and funding == "prepaid"


@transaction.atomic
def store(
    organization: Organization, details: gateway.Object, *, now: datetime, setup: CardSetup | None
) -> PaymentMethod:
    """Return the row of a Stripe payment method, made if it is new; an older row of the same card is retired.

    The first card becomes the default, and so does one that replaces the default. A removed card stays removed.
    """
    Customer.objects.select_for_update(of=("self",)).get(organization=organization)
    method, is_new = PaymentMethod.objects.get_or_create(
        stripe_payment_method_id=details["id"],
        defaults={"organization": organization, "created_at": now, **facts(details)},
    )
    if setup is not None and not method.mandate_accepted_at:
        method.mandate_version, method.mandate_text = setup.mandate_version, setup.mandate_text
        method.mandate_accepted_at, method.mandate_accepted_by = setup.mandate_accepted_at, setup.mandate_accepted_by
        method.save()
    if is_new:
        _replace_twins(method, now)
        if not _live(organization).filter(is_default=True).exists():
            _make_default(method)
    return method


@transaction.atomic
def choose(method: PaymentMethod) -> None:
    """Make this card the default. Raises PaymentMethod.DoesNotExist for one that was removed."""
    Customer.objects.select_for_update(of=("self",)).get(organization=method.organization)
    _live(method.organization).get(pk=method.pk)
    _make_default(method)


def retire(method: PaymentMethod, *, now: datetime) -> None:
    """Mark a card as removed; if it was the default, the newest of the others is. Needs the caller's transaction."""
    Customer.objects.select_for_update(of=("self",)).get(organization=method.organization)
    if not _live(method.organization).filter(pk=method.pk).update(removed_at=now, is_default=False):
        return
    newest = _live(method.organization).order_by("-created_at", "-id").first()
    if newest is not None and not _live(method.organization).filter(is_default=True).exists():
        _make_default(newest)
    method.refresh_from_db()


def refresh(method: PaymentMethod, details: gateway.Object) -> None:
    """Copy what a bank may renew: number, expiry, brand."""
    PaymentMethod.objects.filter(pk=method.pk).update(**facts(details))


def facts(details: gateway.Object) -> dict[str, Any]:
    """Return what we keep of a Stripe payment method; never a card number."""
    card = details.get("card") or {}
    return {
        "kind": details["type"][:24],
        "brand": card.get("brand") or "",
        "last4": card.get("last4") or "",
        "expires_month": card.get("exp_month"),
        "expires_year": card.get("exp_year"),
        "funding": card.get("funding") or "",
        "fingerprint": card.get("fingerprint") or "",
    }


def detach(organization: Organization, stripe_payment_method_id: str, *, now: datetime) -> None:
    """Detach a card at Stripe; one that is detached or gone already is fine."""
    if not _is_attached(stripe_payment_method_id):
        return
    intents.perform(
        organization=organization,
        verb="payment_methods.detach",
        reference=f"detach:{stripe_payment_method_id}",
        params={},
        call=partial(gateway.act, "payment_methods", "detach", stripe_payment_method_id),
        look_up=lambda: None,  # it is attached: that was just read
        now=now,
        again=True,
    )


def _is_attached(stripe_payment_method_id: str) -> bool:
    try:
        return bool(gateway.retrieve("payment_methods", stripe_payment_method_id).get("customer"))
    except gateway.NotFound:
        return False


def agree_on_default(organization: Organization, *, now: datetime) -> None:
    """Make Stripe charge the card that we call the default.

    It stands on the customer alone: a subscription without a card of its own charges the customer's.
    """
    customer = Customer.objects.get(organization=organization)
    for _ in range(_ATTEMPTS_TO_AGREE):
        ours = _default_id(organization)
        settings = gateway.retrieve("customers", customer.stripe_customer_id).get("invoice_settings") or {}
        if (settings.get("default_payment_method") or "") == ours:
            return
        params = {"invoice_settings": {"default_payment_method": ours}}
        intents.perform(
            organization=organization,
            verb="customers.update",
            reference=f"default_card:{customer.stripe_customer_id}:{uuid.uuid4()}",
            params=params,
            call=partial(gateway.update, "customers", customer.stripe_customer_id),
            now=now,
        )


def _live(organization: Organization) -> Any:
    return PaymentMethod.objects.filter(organization=organization, removed_at=None)


def _default_id(organization: Organization) -> str:
    """Return the Stripe id of the default card; empty, which clears it at Stripe, where there is none."""
    default = _live(organization).filter(is_default=True).first()
    return default.stripe_payment_method_id if default else ""


def _make_default(method: PaymentMethod) -> None:
    _live(method.organization).exclude(pk=method.pk).update(is_default=False)
    method.is_default = True
    method.save(update_fields=["is_default"])


def _replace_twins(method: PaymentMethod, now: datetime) -> None:
    """Retire older rows of the same card: a double submit, or a card entered again, is one card (F27, F29)."""
    if not method.fingerprint:
        return
    twins = _live(method.organization).filter(kind=method.kind, fingerprint=method.fingerprint).exclude(pk=method.pk)
    was_default = twins.filter(is_default=True).exists()
    twins.update(removed_at=now, is_default=False)
    if was_default:
        _make_default(method)
