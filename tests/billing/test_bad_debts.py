"""An invoice that nobody will pay: Stripe stops, the ledger writes off, and a late payment undoes it."""

from collections.abc import Callable

import pytest

from accounts.models import Organization
from billing_portal.billing import bad_debts, gateway, interim_walk, interims, invoices, month_end, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import balances, verification, write_offs
from billing_portal.ledger.models import Account, Transaction
from billing_portal.support import actions, kinds
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, use
from tests.stripe.conftest import RunningSandbox


@pytest.fixture
def unpaid(used: Callable[..., Organization]) -> Invoice:
    """An invoice of February whose card was declined."""
    acme = used("acme", card="pm_card_chargeCustomerFail", credit_micros=0)
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.OPEN
    return invoice


def owed(invoice: Invoice) -> int:
    account = Account.objects.get(organization=invoice.organization)
    return balances.balance(account, now=CLOSING).accrued_micros


def write_off(invoice: Invoice, reference: str = "w1") -> Transaction:
    return bad_debts.write_off(invoice, reason="The company is insolvent", reference=reference, now=CLOSING)


def status(invoice: Invoice) -> str:
    return str(gateway.retrieve("invoices", invoice.stripe_invoice_id)["status"])


def test_the_debt_leaves_the_books_only_after_stripe_stopped(unpaid: Invoice) -> None:
    before = owed(unpaid)
    assert before > 0
    with pytest.raises(bad_debts.NotGivenUp):
        write_off(unpaid)
    for _ in range(2):
        assert bad_debts.stop_collecting(unpaid, now=CLOSING).state == Invoice.State.UNCOLLECTIBLE
        unpaid.refresh_from_db()
    assert status(unpaid) == "uncollectible"
    assert owed(unpaid) == before
    assert write_off(unpaid) == write_off(unpaid)
    assert owed(unpaid) == 0
    assert list(verification.verify(unpaid.organization_id)) == []
    assert reconciliation.reconcile_invoice(unpaid, deep=True).agrees
    with pytest.raises(write_offs.AlreadyGivenUp):
        write_off(unpaid, reference="w2")


def test_paid_after_all_it_is_written_back_and_collected_once(unpaid: Invoice) -> None:
    bad_debts.stop_collecting(unpaid, now=CLOSING)
    write_off(unpaid)
    gateway.act("invoices", "pay", unpaid.stripe_invoice_id, {"paid_out_of_band": True}, "late")
    for _ in range(2):
        invoices.receive(gateway.retrieve("invoices", unpaid.stripe_invoice_id), now=CLOSING)
    unpaid.refresh_from_db()
    assert unpaid.state == Invoice.State.PAID
    assert owed(unpaid) == 0
    kinds_posted = list(Transaction.objects.order_by("id").values_list("kind", flat=True))
    assert kinds_posted[-3:] == ["write_off", "reverse", "collect"]
    assert Transaction.objects.get(kind="reverse").reason == "The invoice was paid after all"
    assert list(verification.verify(unpaid.organization_id)) == []


def test_a_draft_and_a_paid_invoice_have_no_debt_to_give_up(used: Callable[..., Organization]) -> None:
    invoice = invoice_of(used("acme"))
    with pytest.raises(bad_debts.NotGivenUp):
        bad_debts.stop_collecting(invoice, now=CLOSING)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    with pytest.raises(bad_debts.NotGivenUp):
        bad_debts.stop_collecting(invoice, now=CLOSING)


def test_staff_write_it_off_by_one_action_and_stripe_away_changes_nothing(unpaid: Invoice, stripe, make_user) -> None:
    sam = make_user("sam@desk.example", is_staff=True)
    asked = {
        "kind": kinds.named("write_off"),
        "organization": unpaid.organization,
        "params": {"invoice": unpaid.pk},
        "by": sam,
        "now": CLOSING,
    }
    before = owed(unpaid)
    seen = actions.preview(**asked)
    assert (seen.changes[0].before_micros, seen.changes[0].after_micros) == (before, 0)
    again = {"reason": "Insolvent", "public_id": unpaid.public_id}
    stripe.faults(fail_next={"status": 500, "count": 50})
    with pytest.raises(actions.Refused, match="Stripe"):
        actions.ask(**asked, **again)
    assert owed(unpaid) == before
    stripe.faults(fail_next={})
    assert actions.ask(**asked, **again).state == "done"
    assert (status(unpaid), owed(unpaid)) == ("uncollectible", 0)


def test_what_is_forgiven_before_the_month_ends_comes_off_the_invoice(used: Callable[..., Organization]) -> None:
    acme = used("acme", credit_micros=0)
    account = Account.objects.get(organization=acme)
    before = write_offs.forgivable_micros(account, MONTH, now=CLOSING)
    forgiven = before // 3
    write_offs.forgive(organization=acme, month=MONTH, micros=forgiven, reason="Outage", reference="f", now=CLOSING)
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert abs(invoice.total_minor * 10_000 - (before - forgiven)) <= 10_000 * invoice.lines.count()
    assert invoice.lines.filter(grant_kind="goodwill").exists()
    assert owed(invoice) == 0
    assert reconciliation.reconcile_invoice(invoice, deep=True).agrees
    assert list(verification.verify(acme.pk)) == []


def test_everything_forgiven_leaves_an_invoice_of_exactly_zero(used: Callable[..., Organization]) -> None:
    acme = used("acme", credit_micros=0)
    account = Account.objects.get(organization=acme)
    everything = write_offs.forgivable_micros(account, MONTH, now=CLOSING)
    write_offs.forgive(organization=acme, month=MONTH, micros=everything, reason="Outage", reference="f", now=CLOSING)
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.total_minor) == (Invoice.State.PAID, 0)
    assert list(verification.verify(acme.pk)) == []


def test_an_interim_invoice_is_given_up_alone_and_the_month_s_own_payment_leaves_that_standing(
    stripe: RunningSandbox, limited: Callable[..., Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = limited("acme")
    use(acme, 12, seed=1)
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert interim is not None
    interim_walk.advance(interim, now=MIDMONTH)
    interim.refresh_from_db()
    declined = interim.invoice
    assert declined is not None
    assert declined.state == Invoice.State.OPEN
    given_up = owed(declined)
    bad_debts.stop_collecting(declined, now=MIDMONTH)
    assert write_off(declined).write_off.micros == given_up == interims.micros(interim)
    use(acme, 3, seed=2)
    rest = owed(declined)
    assert rest > 0
    stripe.advance_to(CLOSING.timestamp())
    own = invoice_of(acme)
    month_end.advance(own, now=CLOSING)
    own.refresh_from_db()
    assert own.state == Invoice.State.PAID
    assert owed(declined) == 0
    assert not Transaction.objects.filter(kind="reverse").exists()
    assert list(verification.verify(acme.pk)) == []
