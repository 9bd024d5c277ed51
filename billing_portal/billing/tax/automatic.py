"""Stripe's automatic tax: switched on where Stripe finds the place, and what becomes of a draft that lacks one.

Stripe refuses to finalize such a draft, or on its own clock drops the tax in silence. Here it is held, its customer is
asked, and it goes on as soon as the address is there. After `TAX_ADDRESS_AWAITED_FOR` it is made final without tax,
marked so in the tax report: what was used has to be billed in the month's books, and no one is stopped for an address.
"""

import uuid
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet, Value
from django.db.models.functions import Concat

from accounts import letters
from accounts.models import Organization
from billing_portal.billing import customers, gateway, intents
from billing_portal.billing.models import Customer, Intent, Invoice, Purchase, SeatPlan
from billing_portal.billing.tax import details

log = structlog.get_logger(__name__)

NO_PLACE = "The billing address is missing or not recognised, so its tax cannot be worked out."
FAILED = "Stripe could not work out the tax."
# Says on an invoice why it carries no tax.
UNTAXED = "untaxed"
_REFERENCE = "automatic_tax:"


class TaxWaits(Exception):
    """The draft cannot be made final yet: its tax is not worked out. The message says why."""


def is_wanted(customer: Customer) -> bool:
    """Say whether Stripe is to work out tax for this customer; without `AUTOMATIC_TAX`, as its subscription says."""
    return settings.AUTOMATIC_TAX or customers.is_taxed(customer)


def apply(organization: Organization, *, now: datetime) -> None:
    """Bring the newest details to Stripe, and have tax worked out there; what fails for now, the sweep goes on with."""
    try:
        details.send(organization, now=now)
        switch_on(organization, now=now)
    except (gateway.Failed, intents.OutcomeUnknown, customers.CustomerDeleted):
        log.warning("billing details left to the sweep", organization_id=organization.pk, exc_info=True)


def switch_on(organization: Organization, *, now: datetime) -> None:
    """Have tax worked out on the organization's subscriptions, once Stripe finds the place. Raises as intents do."""
    known = details.at_stripe(organization)
    if settings.AUTOMATIC_TAX and known is not None and known.location in details.PLACED:
        for stripe_subscription_id in _subscriptions(organization):
            _switch_on(organization, stripe_subscription_id, now=now)


def switch_on_missing(*, now: datetime, limit: int = 200) -> None:
    """Switch it on wherever a subscription is newer than the address, or an answer was lost (F24)."""
    if not settings.AUTOMATIC_TAX:
        return
    for owner in [*_untaxed(Customer)[:limit], *_untaxed(SeatPlan)[:limit]]:
        try:
            _switch_on(owner.organization, owner.stripe_subscription_id or "", now=now)
        except Exception:
            log.exception("automatic tax not switched on", organization_id=owner.organization_id)


def settle(invoice: Invoice, *, now: datetime) -> str:
    """Bring a draft to where it may be made final, with its tax and its purchase order; or say what is missing.

    Raises what the gateway and the intents raise.
    """
    details.send(invoice.organization, now=now)
    newest = details.current(invoice.organization)
    if newest is None and not settings.AUTOMATIC_TAX:
        return ""
    data = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    if newest is not None and (data.get("custom_fields") or []) != details.custom_fields(newest):
        data = _update(invoice, {"custom_fields": details.custom_fields(newest) or ""})
    if not settings.AUTOMATIC_TAX:
        return ""
    if data["subtotal"] > 0 and not data["automatic_tax"]["enabled"]:
        data = _update(invoice, {"automatic_tax": {"enabled": True}})
    return "" if data["automatic_tax"]["status"] == "complete" else _hold(invoice, data, now=now)


def check(invoice: Invoice, *, now: datetime) -> None:
    """Do what `settle` does. Raises TaxWaits for what is missing."""
    if reason := settle(invoice, now=now):
        raise TaxWaits(reason)


def _hold(invoice: Invoice, data: gateway.Object, *, now: datetime) -> str:
    """Wait for what tax needs, but not for ever; where nothing is to be paid there is no tax, wherever it is."""
    reason = FAILED if data["automatic_tax"]["status"] == "failed" else NO_PLACE
    if data["subtotal"] <= 0:
        return _leave_out(invoice, data)
    if now - invoice.drafted_at >= settings.TAX_ADDRESS_AWAITED_FOR:
        log.error("invoice without tax", invoice_id=invoice.pk, organization_id=invoice.organization_id, reason=reason)
        return _leave_out(invoice, data, why="calculation_failed" if reason == FAILED else "no_location")
    if reason == NO_PLACE:
        ask_for_address(invoice, now=now)
    return reason


def ask_for_address(invoice: Invoice, *, now: datetime) -> int:
    """Write the letter that asks for the address of a draft, once; return how many are new."""
    return letters.write(
        template="emails/address_needed",
        reference=f"address_needed:{invoice.stripe_invoice_id}",
        to=letters.billing_addresses(invoice.organization),
        organization=invoice.organization,
        invoice=invoice,
        is_purchase=Purchase.objects.filter(invoice=invoice).exists(),
        ends_at=invoice.drafted_at + settings.TAX_ADDRESS_AWAITED_FOR,
        now=now,
    )


def _leave_out(invoice: Invoice, data: gateway.Object, *, why: str = "") -> str:
    """Have the draft made final without tax; it says itself why."""
    if data["automatic_tax"]["enabled"]:
        changes: dict[str, object] = {"automatic_tax": {"enabled": False}}
        _update(invoice, changes | ({"metadata": {UNTAXED: why}} if why else {}))
    return ""


def _update(invoice: Invoice, params: dict[str, object]) -> gateway.Object:
    """Change a draft. Repeating it is harmless, and one change may follow its opposite: so no key is used twice."""
    return gateway.update("invoices", invoice.stripe_invoice_id, params, str(uuid.uuid4()))


def _switch_on(organization: Organization, stripe_subscription_id: str, *, now: datetime) -> None:
    intents.perform(
        organization=organization,
        verb="switch on automatic tax",
        reference=f"{_REFERENCE}{stripe_subscription_id}",
        params={"automatic_tax": {"enabled": True}},
        call=partial(gateway.update, "subscriptions", stripe_subscription_id),
        look_up=lambda: None,  # twice does no harm
        again=True,
        now=now,
    )


def _subscriptions(organization: Organization) -> list[str]:
    """Return the Stripe subscriptions of an organization: that of its meters, and that of its seats."""
    of_meters = Customer.objects.filter(organization=organization).values_list("stripe_subscription_id", flat=True)
    of_seats = SeatPlan.objects.filter(organization=organization).values_list("stripe_subscription_id", flat=True)
    return [each for each in [*of_meters, *of_seats] if each]


def _untaxed(model: type[Customer] | type[SeatPlan]) -> QuerySet[Any]:
    """Return who has a subscription that tax was not switched on for, though Stripe finds the place."""
    done = Intent.objects.filter(
        reference=Concat(Value(_REFERENCE), OuterRef("stripe_subscription_id")), state=Intent.State.DONE
    )
    placed = model._default_manager.filter(
        stripe_subscription_id__isnull=False, organization__details_at_stripe__location__in=details.PLACED
    )
    return placed.exclude(Exists(done)).select_related("organization").order_by("pk")
