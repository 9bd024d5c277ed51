"""A month's payment killed with SIGKILL while the ledger collects it, before and after every lock, write and commit."""

from collections.abc import Callable
from datetime import timedelta

from accounts.models import Organization
from billing_portal.billing import month_end, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settlement, verification
from billing_portal.ledger.models import Account, Entry
from tests.billing import killing
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, load_prices, record_calls
from tests.stripe.conftest import RunningSandbox

COLLECT = "ledger.collections.collect"
MOST = 12  # places


def entries(organization: Organization) -> list[tuple[object, ...]]:
    found = Entry.objects.filter(organization=organization).order_by("transaction__kind", "book")
    return list(found.values_list("transaction__kind", "book", "micros"))


def test_f13_f14_i13_a_months_payment_killed_while_the_ledger_collects_it(
    stripe: RunningSandbox, subscribed: Callable[..., Organization]
) -> None:
    load_prices()
    later = MIDMONTH + timedelta(hours=1)
    control, *others = [subscribed(f"acme-{number}") for number in range(1 + MOST)]
    for each in (control, *others):
        record_calls(each, 3, starts_at=MIDMONTH, now=later)
        settlement.settle_all(each.pk, now=later)
    stripe.advance_to(CLOSING.timestamp())
    with killing.victim(STRIPE_API_BASE=stripe.url) as victim:
        end = {"verb": "end the month", "now": CLOSING, "within": COLLECT}
        places = victim.rehearse(subject=invoice_of(control).pk, **end)
        assert {"after LOCK ledger_account 1", "after INSERT ledger_entry 1", "after COMMIT 1"} <= {*places}
        for place, each in zip(places, others, strict=False):
            victim.kill(place, subject=invoice_of(each).pk, **end)
    assert len(places) <= MOST
    for place, each in zip(places, others, strict=False):
        assert month_end.advance(invoice_of(each), now=CLOSING), place
        invoice = Invoice.objects.get(organization=each)
        assert invoice.state == Invoice.State.PAID, place
        assert entries(each) == entries(control), place
        assert Account.objects.get(organization=each).accrued_micros == 0, place
        assert list(verification.verify(each.pk)) == [], place
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == [], place
    assert len(stripe.dump()["objects"]["charge"]) == 1 + len(places)
