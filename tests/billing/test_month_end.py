"""A month from the first call to a paid invoice that agrees, and everything that can go wrong at its end."""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection

from accounts.models import Organization
from billing_portal.billing import gateway, month_end, reconciliation
from billing_portal.billing.models import CreditLine, Invoice, InvoiceLine, Report
from billing_portal.ledger import settlement, totals
from billing_portal.ledger.models import Period, Transaction
from tests.billing.receipts.conftest import assert_all_verified
from tests.billing.world import ANCHOR, CLOSING, MIDMONTH, MONTH, invoice_of, load_prices, record_calls, settled
from tests.charged import all_charges
from tests.conftest import only_long
from tests.stripe.conftest import RunningSandbox

Subscribed = Callable[..., Organization]


def outcome(organization: Organization) -> dict[str, object]:
    """What must be the same whatever went wrong on the way."""
    invoice = Invoice.objects.get(organization=organization, month=MONTH)
    lines = invoice.lines.values_list("kind", "component", "grant_kind", "quantity", "amount_minor")
    return {
        "state": invoice.state,
        "total": invoice.total_minor,
        "paid": invoice.amount_paid_minor,
        "lines": sorted(lines, key=str),
        "collected": Transaction.objects.filter(organization=organization, kind="collect").count(),
    }


def test_a_month_ends_paid_and_without_difference(used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    month = totals.month(acme.pk, MONTH)
    assert (invoice.state, invoice.waiting_for) == (Invoice.State.PAID, "")
    assert month.burnt_micros == 10_000_000
    assert abs(invoice.total_minor * 10_000 - month.accrued_micros) < 10_000 * invoice.lines.count()
    assert invoice.amount_paid_minor == invoice.total_minor > 0
    assert Period.objects.get(organization=acme, month=MONTH).closed_at is not None
    result = reconciliation.reconcile_invoice(invoice, deep=True)
    assert result.differences == []
    assert {line.calls for line in result.lines if line.component == "llm"} <= set(range(61))


def test_i06_walking_it_again_changes_nothing(stripe: RunningSandbox, used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    before = outcome(acme), stripe.dump()["objects"]
    assert month_end.advance(invoice, now=CLOSING)
    assert month_end.advance_waiting(now=CLOSING) == 0
    assert (outcome(acme), stripe.dump()["objects"]) == before


def test_full_cover_ends_at_exactly_zero(used: Subscribed) -> None:
    acme = used("acme", credit_micros=10_000_000_000)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.total_minor, invoice.amount_due_minor) == (Invoice.State.PAID, 0, 0)
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_without_credit_the_total_is_the_sum_of_rounded_components(used: Subscribed) -> None:
    acme = used("acme", credit_micros=0)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.lines.filter(kind=InvoiceLine.Kind.CREDIT).count() == 0
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_a_month_without_usage_is_paid_at_zero(used: Subscribed) -> None:
    acme = used("acme", calls=0)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.total_minor) == (Invoice.State.PAID, 0)
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_a_total_under_the_minimum_is_carried_over(used: Subscribed) -> None:
    acme = used("acme", calls=1, credit_micros=0)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert 0 < invoice.total_minor < 50
    assert (invoice.amount_due_minor, invoice.amount_paid_minor) == (0, 0)
    assert invoice.ending_balance_minor == invoice.total_minor
    assert invoice.is_carried_over
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_f35_a_decline_leaves_it_open_to_stripes_retries(stripe: RunningSandbox, used: Subscribed) -> None:
    acme = used("acme")
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.amount_paid_minor) == (Invoice.State.OPEN, 0)
    assert invoice.next_payment_attempt_at is not None
    assert month_end.advance_waiting(now=CLOSING) in {0, 1}
    stripe.advance(15 * 86400)
    assert month_end.advance(invoice, now=stripe.now())
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert reconciliation.reconcile_invoice(invoice, deep=False).differences == []


def test_without_a_card_it_stays_open(used: Subscribed) -> None:
    acme = used("acme", card=None)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.OPEN
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_stripes_own_clock_does_not_finalize_what_we_hold(stripe: RunningSandbox, used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    Report.objects.update(state=Report.State.REJECTED)
    stripe.faults(fail_next={"status": 500, "path": "meter_events", "count": 1000})
    assert not month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert "usage report" in invoice.waiting_for
    stripe.faults(fail_next={})
    stripe.advance(5 * 86400)
    assert gateway.retrieve("invoices", invoice.stripe_invoice_id)["status"] == "draft"
    assert month_end.advance(invoice, now=stripe.now())
    assert reconciliation.reconcile_invoice(Invoice.objects.get(pk=invoice.pk), deep=True).differences == []


@pytest.mark.parametrize("path", ["meter_events", "invoiceitems", "finalize", "/pay", "/lines", "event_summaries"])
@pytest.mark.parametrize("fault", ["500", *only_long("429", "timeout before"), "timeout after"])
def test_f14_f17_f18_f19_any_step_may_fail_and_is_repeated(
    stripe: RunningSandbox, used: Subscribed, path: str, fault: str
) -> None:
    acme = used("acme", calls=20, credit_micros=500_000)
    invoice = invoice_of(acme)
    if fault.startswith("timeout"):
        stripe.faults(timeout_next={"when": fault.split()[1], "seconds": 4, "path": path, "count": 1})
    else:
        stripe.faults(fail_next={"status": int(fault), "path": path, "count": 1})
    for _ in range(4):
        month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert len(stripe.dump()["objects"]["invoiceitem"]) == CreditLine.objects.filter(amount_minor__gt=0).count()
    assert len(stripe.dump()["objects"]["charge"]) == 1


def test_f47_a_late_call_is_billed_in_the_month_that_is_open(used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    before = outcome(acme)
    late = CLOSING + timedelta(hours=1)
    record_calls(acme, 3, starts_at=MIDMONTH + timedelta(days=1), now=late, seed=7)
    settlement.settle_all(acme.pk, now=late)
    assert {charge.billed_month for charge in all_charges(call_id__startswith="call_7_")} == {date(2027, 3, 1)}
    month_end.advance(invoice, now=late)
    assert outcome(acme) == before
    assert reconciliation.reconcile_invoice(Invoice.objects.get(pk=invoice.pk), deep=True).differences == []


def test_f47_a_call_that_arrives_with_the_draft_is_still_in_it(used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    record_calls(acme, 3, starts_at=MIDMONTH + timedelta(days=1), now=CLOSING, seed=7)
    assert month_end.advance(invoice, now=CLOSING)
    assert sum(charge.billed_month == MONTH for charge in all_charges()) == 63
    assert reconciliation.reconcile_invoice(Invoice.objects.get(pk=invoice.pk), deep=True).differences == []


def test_f23_two_walkers_at_once_make_one_invoice(stripe: RunningSandbox, used: Subscribed) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    start = threading.Barrier(3)

    def walk() -> None:
        start.wait()
        month_end.advance_waiting(now=CLOSING)
        connection.close()

    threads = [threading.Thread(target=walk) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    month_end.advance_waiting(now=CLOSING)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert len(stripe.dump()["objects"]["charge"]) == 1
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_f04_an_invoice_whose_webhook_never_came_is_found(used: Subscribed) -> None:
    acme = used("acme")
    assert month_end.find_missing(now=ANCHOR + timedelta(minutes=5)) == 0
    assert month_end.advance_waiting(now=CLOSING) == 1
    assert Invoice.objects.get(organization=acme, month=MONTH).state == Invoice.State.PAID


def test_an_invoice_that_stripe_finalized_first_is_named(
    stripe: RunningSandbox, used: Subscribed, settings: object
) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    gateway.act("invoices", "finalize_invoice", invoice.stripe_invoice_id, {"auto_advance": False}, "too-early")
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    levels = {difference.level for difference in reconciliation.reconcile_invoice(invoice, deep=False).differences}
    assert {"credit", "line amount"} <= levels
    assert "without" in invoice.waiting_for


def test_two_months_in_a_row_keep_apart(stripe: RunningSandbox, used: Subscribed) -> None:
    acme = used("acme")
    month_end.advance(invoice_of(acme), now=CLOSING)
    march = datetime(2027, 3, 20, tzinfo=UTC)
    stripe.advance_to(march.timestamp())
    record_calls(acme, 30, starts_at=march - timedelta(days=1), now=march, seed=9)
    april = datetime(2027, 4, 1, 12, 10, tzinfo=UTC)
    stripe.advance_to(april.timestamp())
    second = invoice_of(acme, month=date(2027, 3, 1), now=april)
    assert month_end.advance(second, now=april)
    for invoice in Invoice.objects.filter(month__isnull=False):
        assert invoice.state == Invoice.State.PAID
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def test_news_of_a_draft_starts_its_walk(used: Subscribed) -> None:
    from accounts import clock
    from billing_portal.billing import receivers

    acme = used("acme", calls=5)
    clock.follow(CLOSING - datetime.now(UTC))
    draft = gateway.retrieve("invoices", invoice_of(acme).stripe_invoice_id)
    receivers.receive_invoice(draft, now=CLOSING)
    assert Invoice.objects.get(month=MONTH).state == Invoice.State.PAID


@pytest.mark.parametrize(("currency", "minor"), [("JPY", 3_001), ("KWD", 3_000_500)])
def test_f42_currencies_of_other_decimals_are_billed_to_their_minor_unit(
    stripe: RunningSandbox, subscribed: Subscribed, currency: str, minor: int
) -> None:
    acme = subscribed("acme", currency=currency)
    settled(acme, {"llm": 3_000_500_000})
    stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.currency, invoice.total_minor) == (currency, minor)
    (line,) = invoice.lines.filter(component="llm")
    assert (line.quantity, line.amount_minor) == (3_000_500_000, minor)


def test_i10_what_was_carried_over_is_collected_with_the_next_invoice(
    stripe: RunningSandbox, used: Subscribed, tmp_path: Path
) -> None:
    acme = used("acme", calls=1, credit_micros=0)
    first = invoice_of(acme)
    month_end.advance(first, now=CLOSING)
    march = datetime(2027, 3, 20, tzinfo=UTC)
    stripe.advance_to(march.timestamp())
    record_calls(acme, 30, starts_at=march - timedelta(days=1), now=march, seed=9)
    april = datetime(2027, 4, 1, 12, 10, tzinfo=UTC)
    stripe.advance_to(april.timestamp())
    second = invoice_of(acme, month=date(2027, 3, 1), now=april)
    assert month_end.advance(second, now=april)
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.is_carried_over
    assert second.starting_balance_minor == first.total_minor > 0
    assert second.amount_paid_minor == first.total_minor + second.total_minor
    for invoice in (first, second):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert assert_all_verified(acme, tmp_path) == 2


def test_a_subscription_of_the_first_morning_has_an_empty_invoice_for_the_month_before(
    stripe: RunningSandbox, subscribed: Subscribed
) -> None:
    load_prices()
    morning = datetime(2027, 3, 1, 8, tzinfo=UTC)
    stripe.advance_to(morning.timestamp())
    acme = subscribed("acme")
    record_calls(acme, 5, starts_at=morning, now=morning + timedelta(hours=1))
    settlement.settle_all(acme.pk, now=morning + timedelta(hours=1))
    stripe.advance_to(CLOSING.timestamp())
    empty = invoice_of(acme)
    assert month_end.advance(empty, now=CLOSING)
    empty.refresh_from_db()
    assert (empty.month, empty.state, empty.total_minor) == (MONTH, Invoice.State.PAID, 0)
    april = datetime(2027, 4, 1, 12, 10, tzinfo=UTC)
    stripe.advance_to(april.timestamp())
    march = invoice_of(acme, month=date(2027, 3, 1), now=april)
    assert month_end.advance(march, now=april)
    march.refresh_from_db()
    assert march.total_minor > 0
    assert reconciliation.reconcile_invoice(march, deep=True).differences == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
def test_f45_months_of_every_zone_end_before_their_invoice(
    stripe: RunningSandbox, subscribed: Subscribed, zone: str
) -> None:
    load_prices()
    acme = subscribed("acme", time_zone=zone)
    edge = datetime(2027, 3, 1, tzinfo=UTC)
    stripe.advance_to(CLOSING.timestamp())
    record_calls(acme, 48, starts_at=edge - timedelta(hours=14), now=CLOSING, seed=1)
    record_calls(acme, 40, starts_at=edge + timedelta(hours=11, minutes=10), now=CLOSING, seed=2)
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING)
    bounds = Period.objects.get(organization=acme, month=MONTH)
    in_february = all_charges(started_at__gte=bounds.starts_at, started_at__lt=bounds.ends_at)
    assert {charge.billed_month for charge in in_february} <= {MONTH}
    invoice.refresh_from_db()
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
