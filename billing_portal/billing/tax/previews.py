"""What a purchase comes to with its tax, before anybody clicks: Stripe's preview of the very invoice it would be."""

from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.core.cache import cache

from accounts.models import Organization
from billing_portal.billing import customers, gateway, minor_units
from billing_portal.billing.models import Customer
from billing_portal.billing.tax import details, tax_ids

log = structlog.get_logger(__name__)

# A page asks again with each amount that is typed.
_KEPT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Preview:
    """Net, tax and total in minor units; `reason` is Stripe's word for why there is no tax, if there is none."""

    currency: str
    net_minor: int
    tax_minor: int
    reason: str = ""

    @property
    def total_minor(self) -> int:
        """What would be charged."""
        return self.net_minor + self.tax_minor

    @property
    def is_reverse_charge(self) -> bool:
        """Whether the customer accounts for the tax themselves."""
        return self.reason == "reverse_charge"


def of(organization: Organization, micros: int, *, now: datetime) -> Preview | None:
    """Return what buying for `micros` would come to; None where Stripe cannot say now: then it is "plus tax".

    Makes nothing at Stripe, and is called outside of transactions.
    """
    customer = Customer.objects.filter(organization=organization, deleted_at=None).first()
    if not settings.AUTOMATIC_TAX or customer is None or details.current(organization) is None:
        return None
    minor = minor_units.from_micros(micros, organization.currency)
    key = f"billing.preview.{customer.pk}.{minor}.{_state(organization)}"
    known: Preview | None = cache.get(key)
    if known is not None:
        return known
    try:
        found = _ask(customer, organization, minor)
    except (gateway.Failed, customers.CustomerDeleted):
        log.warning("tax not previewed", organization_id=organization.pk, exc_info=True)
        return None
    if found is not None:
        cache.set(key, found, timeout=_KEPT_SECONDS)
    return found


def _ask(customer: Customer, organization: Organization, minor: int) -> Preview | None:
    currency = organization.currency.lower()
    item = {"amount": minor, "currency": currency, "description": "Purchase", "tax_behavior": "exclusive"}
    data = gateway.preview_invoice(
        {
            "customer": customer.stripe_customer_id,
            "currency": currency,
            "automatic_tax": {"enabled": True},
            "invoice_items": [item],
        }
    )
    if data["automatic_tax"]["status"] != "complete":
        return None
    taxes = data.get("total_taxes") or []
    tax = sum(each["amount"] for each in taxes)
    reasons = [each["taxability_reason"] or "" for each in taxes]
    # What else waits to be invoiced at Stripe is on the preview too, and none of the purchase.
    if data["total"] - tax != minor:
        return None
    return Preview(organization.currency, minor, tax, reasons[0] if reasons and not tax else "")


def _state(organization: Organization) -> str:
    """Return what the tax depends on here, so that a change is seen at once."""
    newest = details.current(organization)
    held = ".".join(f"{each.pk}{each.verification}" for each in tax_ids.of(organization))
    return f"{newest.version if newest else 0}.{held}"
