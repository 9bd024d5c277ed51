"""F48: a call corrected at any time of its life ends at the right sum, and no byte of a finalized invoice changes."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta

import msgspec
import pytest

from accounts.models import Organization
from billing_portal.billing import call_traces, gateway, metering, month_end, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settlement, totals, verification
from billing_portal.ledger.models import Grant
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of
from tests.stripe.conftest import RunningSandbox
from usage import calls, charges, ingestion, rollup_upkeep, rollups

Used = Callable[..., Organization]

MARCH = date(2027, 3, 1)
MARCH_CLOSING = datetime.fromisoformat("2027-04-01T12:10:00+00:00")
CHEAPER, DEARER, CANCELLED = "call_1_4", "call_1_5", "call_1_7"


def correct(organization: Organization, call_id: str, *, now: datetime, **fields: object) -> None:
    """Send a call again as it should have been."""
    found = calls.find(organization.pk, call_id)
    assert found is not None
    item = {
        "call_id": call_id,
        "organization": organization.reference,
        "call_type": found.kind.call_type,
        "call_status": "ended",
        "start_timestamp": found.started_at.isoformat(),
        "duration_ms": found.duration_ms,
        "products": found.mix.products,
        "correction": True,
        "revision": found.revision,
        "correction_reason": "Counted wrongly",
        **fields,
    }
    (answer,) = ingestion.record([msgspec.json.encode(item)], now=now)
    assert answer.status == "recorded", answer


def correct_three(organization: Organization, *, now: datetime) -> None:
    correct(organization, CHEAPER, now=now, duration_ms=1_000)
    correct(organization, DEARER, now=now, duration_ms=900_000)
    correct(organization, CANCELLED, now=now, call_status="cancelled")
    settlement.settle_all(organization.pk, now=now)


def in_force(organization: Organization) -> int:
    """Return what all calls cost by their newest revisions."""
    newest = [calls.find(organization.pk, f"call_1_{number}") for number in range(12)]
    return sum(charges.of(call).price_micros for call in newest)


def as_stripe_has_it(invoice: Invoice) -> str:
    found = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    return json.dumps([found, list(gateway.list_invoice_lines(invoice.stripe_invoice_id))], sort_keys=True, default=str)


def walk(organization: Organization, month: date, *, now: datetime) -> Invoice:
    invoice = invoice_of(organization, month=month, now=now)
    assert month_end.advance(invoice, now=now)
    return Invoice.objects.get(pk=invoice.pk)


def assert_true(*invoices: Invoice) -> None:
    for invoice in invoices:
        assert reconciliation.reconcile_invoice(Invoice.objects.get(pk=invoice.pk), deep=True).differences == []
        assert list(verification.verify(invoice.organization_id)) == []
        assert rollup_upkeep.verify(invoice.organization_id) == []


def given_back(organization: Organization) -> int:
    corrections = Grant.objects.filter(organization=organization, kind="correction")
    return sum(corrections.values_list("amount_micros", flat=True))


@pytest.mark.parametrize("state", ["settled", "reported", "draft"])
def test_f48_before_its_month_is_closed_the_invoice_is_that_of_the_right_calls(
    stripe: RunningSandbox, used: Used, state: str
) -> None:
    later = MIDMONTH + timedelta(hours=13)
    acme = used("acme", calls=12, credit_micros=0)
    now = CLOSING if state == "draft" else later
    if state == "reported":
        metering.write_reports(acme.pk, now=later)
        assert metering.send_reports(now=later) > 0
    draft = invoice_of(acme) if state == "draft" else None
    correct_three(acme, now=now)
    invoice = walk(acme, MONTH, now=CLOSING)
    assert draft is None or draft.pk == invoice.pk
    assert invoice.state == Invoice.State.PAID
    month = totals.month(acme.pk, MONTH)
    assert month.gross_micros - given_back(acme) == in_force(acme) == month.accrued_micros
    # One rounding a line: usage and correction, component by component.
    assert abs(invoice.total_minor * 10_000 - in_force(acme)) < 10_000 * invoice.lines.count()
    assert {line.grant_kind for line in invoice.lines.filter(kind="credit")} == {"correction"}
    assert Grant.objects.filter(organization=acme, remaining_micros__gt=0).count() == 0
    assert_true(invoice)


def test_f48_a_call_corrected_before_it_was_settled_is_charged_right(stripe: RunningSandbox, used: Used) -> None:
    acme = used("acme", calls=12, credit_micros=0)
    item = {"call_id": "call_1_99", "organization": "acme", "call_type": "web_call", "call_status": "ended"}
    item |= {"start_timestamp": MIDMONTH.isoformat(), "duration_ms": 60_000, "products": ["platform"]}
    ingestion.record([msgspec.json.encode(item)], now=CLOSING)
    correct(acme, "call_1_99", now=CLOSING, duration_ms=30_000)
    invoice = walk(acme, MONTH, now=CLOSING)
    assert totals.month(acme.pk, MONTH).accrued_micros == in_force(acme) + 2_500
    assert_true(invoice)


@pytest.mark.parametrize("card", ["pm_card_visa", None])
def test_f47_f48_i12_after_its_invoice_is_final_the_next_one_settles_the_difference(
    stripe: RunningSandbox, used: Used, card: str | None
) -> None:
    acme = used("acme", calls=12, credit_micros=0, card=card)
    february = walk(acme, MONTH, now=CLOSING)
    assert february.state == (Invoice.State.PAID if card else Invoice.State.OPEN)
    before = as_stripe_has_it(february), totals.month(acme.pk, MONTH), list(february.lines.order_by("id").values())
    now = CLOSING + timedelta(days=3)
    stripe.advance_to(now.timestamp())
    gross = in_force(acme)
    correct_three(acme, now=now)
    changed = in_force(acme)
    stripe.advance_to(MARCH_CLOSING.timestamp())
    march = walk(acme, MARCH, now=MARCH_CLOSING)
    month = totals.month(acme.pk, MARCH)
    assert gross + month.gross_micros - given_back(acme) == changed
    left = sum(Grant.objects.filter(organization=acme).values_list("remaining_micros", flat=True))
    assert gross + month.accrued_micros - left == changed
    assert rollups.late_micros(acme.pk, MARCH) == month.gross_micros > 0
    if card:
        # An open invoice goes on being collected, which Stripe writes down; what it bills stays, too.
        assert as_stripe_has_it(february) == before[0]
    february.refresh_from_db()
    assert (totals.month(acme.pk, MONTH), list(february.lines.order_by("id").values())) == before[1:]
    assert_true(february, march)


def test_the_trace_of_a_corrected_call_follows_its_newest_revision(stripe: RunningSandbox, used: Used) -> None:
    acme = used("acme", calls=12, credit_micros=0)
    correct_three(acme, now=CLOSING)
    invoice = walk(acme, MONTH, now=CLOSING)
    trace = call_traces.trace(acme.pk, DEARER)
    assert [each.reason for each in trace.corrections] == ["Counted wrongly"]
    assert trace.charge.price_micros > trace.charge.amount_micros > 0
    assert sum(part.micros for part in trace.invoiced) == trace.charge.amount_micros
    assert (trace.stage, trace.invoice.pk) == ("paid", invoice.pk)
    cancelled = call_traces.trace(acme.pk, CANCELLED)
    assert (cancelled.charge.price_micros, cancelled.invoiced, cancelled.reported) == (0, [], [])
