"""What the tests of billing live in: a month, customers of the sandbox, settlements, calls."""

from datetime import UTC, date, datetime

from accounts.models import Organization
from billing_portal.billing import customers, gateway
from billing_portal.billing.models import Customer
from billing_portal.ledger.models import Account, Settlement, SettlementLine

MONTH = date(2027, 2, 1)
MIDMONTH = datetime(2027, 2, 10, 9, 30, tzinfo=UTC)
ANCHOR = datetime(2027, 3, 1, 12, tzinfo=UTC)


def subscribe(organization: Organization, *, card: str | None, now: datetime) -> Customer:
    """Make the organization a customer with a default card and a subscription to every meter."""
    customer = customers.subscribe(organization, now=now)
    if card:
        stripe_id = customer.stripe_customer_id
        attached = gateway.act("payment_methods", "attach", card, {"customer": stripe_id}, f"{stripe_id}-card")
        default = {"invoice_settings": {"default_payment_method": attached["id"]}}
        gateway.update("customers", stripe_id, default, f"{stripe_id}-default")
    return customer


def settled(organization: Organization, micros: dict[str, int], *, month: date = MONTH) -> Settlement:
    """Write what a settlement of one charge leaves behind, without the charge."""
    account = Account.objects.get(organization=organization)
    account.last_sequence += 1
    account.save(update_fields=["last_sequence"])
    settlement = Settlement.objects.create(
        organization=organization,
        month=month,
        first_sequence=account.last_sequence,
        last_sequence=account.last_sequence,
        gross_micros=sum(micros.values()),
        accrued_micros=sum(micros.values()),
        settled_at=MIDMONTH,
    )
    SettlementLine.objects.bulk_create(
        SettlementLine(
            organization=organization,
            settlement=settlement,
            component=component,
            gross_micros=gross,
            accrued_micros=gross,
        )
        for component, gross in micros.items()
    )
    return settlement
