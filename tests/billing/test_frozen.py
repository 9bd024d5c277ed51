"""A frozen account: nothing of it is charged or lost, nobody else waits, and it catches up by itself."""

from collections.abc import Callable
from datetime import timedelta

from accounts.models import Organization
from billing_portal.billing import inbox, metering, month_end
from billing_portal.billing.models import InboxEvent, Invoice, Report
from billing_portal.ledger import accounts, balances, settlement, verification
from billing_portal.ledger.models import Account, Transaction
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, load_prices, record_calls
from tests.stripe.conftest import RunningSandbox

Made = Callable[..., Organization]


def freeze(organization: Organization) -> None:
    accounts.freeze(organization.pk, reason="1 difference in the books.", now=CLOSING)


def two(stripe: RunningSandbox, subscribed: Made) -> list[Organization]:
    """Return two customers with usage in February and no credit; it is 1 March, 12:10 UTC."""
    load_prices()
    organizations = [subscribed(reference) for reference in ("frozen", "free")]
    for number, organization in enumerate(organizations):
        record_calls(organization, 10, starts_at=MIDMONTH, now=MIDMONTH + timedelta(hours=12), seed=number)
        settlement.settle_all(organization.pk, now=MIDMONTH + timedelta(hours=12))
    stripe.advance_to(CLOSING.timestamp())
    return organizations


def owed(organization: Organization) -> int:
    return balances.balance(Account.objects.get(organization=organization), now=CLOSING).accrued_micros


def test_f24_a_frozen_account_s_invoice_waits_and_says_so_and_the_others_are_paid(
    stripe: RunningSandbox, subscribed: Made
) -> None:
    frozen, free = two(stripe, subscribed)
    invoices = [invoice_of(organization) for organization in (frozen, free)]
    freeze(frozen)
    for organization_id in metering.unreported_organizations(now=CLOSING, limit=10):
        metering.write_reports(organization_id, now=CLOSING)
    assert set(Report.objects.values_list("organization", flat=True)) == {free.pk}
    assert month_end.advance_waiting(now=CLOSING) == 1
    waiting, paid = (Invoice.objects.get(pk=invoice.pk) for invoice in invoices)
    assert (waiting.state, paid.state) == (Invoice.State.DRAFT, Invoice.State.PAID)
    assert "is frozen: 1 difference in the books." in waiting.waiting_for
    accounts.unfreeze(frozen.pk)
    assert month_end.advance_waiting(now=CLOSING) == 1
    waiting.refresh_from_db()
    assert (waiting.state, waiting.waiting_for) == (Invoice.State.PAID, "")
    assert owed(frozen) == 0
    assert list(verification.verify(frozen.pk)) == []


def test_i13_a_payment_that_arrives_while_frozen_is_collected_once_after_it(used: Made) -> None:
    later = used("later", credit_micros=0, card="pm_card_chargeCustomerFail")
    unpaid = invoice_of(later)
    month_end.advance(unpaid, now=CLOSING)
    before = owed(later)
    freeze(later)
    month_end.gateway.act("invoices", "pay", unpaid.stripe_invoice_id, {"paid_out_of_band": True}, "late")
    inbox.catch_up(CLOSING)
    for _ in range(inbox.ATTEMPTS + 2):
        inbox.handle_waiting(now=CLOSING)
        InboxEvent.objects.filter(state="received").update(retry_at=None)
    waiting = InboxEvent.objects.filter(state="received")
    assert {event.type for event in waiting} >= {"invoice.paid"}
    assert not InboxEvent.objects.filter(state="parked").exists()
    assert owed(later) == before
    accounts.unfreeze(later.pk)
    inbox.handle_waiting(now=CLOSING)
    assert owed(later) == 0
    assert Transaction.objects.filter(kind="collect").count() == 1
    assert list(verification.verify(later.pk)) == []
