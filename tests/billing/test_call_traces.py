"""A call traced from its arrival to the payment, on a real month at the sandbox; and ids that got less far."""

from datetime import timedelta

import msgspec
import pytest

from billing_portal.billing import call_traces, interim_walk, metering, month_end
from billing_portal.billing.models import InterimInvoice, Invoice, Report
from billing_portal.ledger import accounts, settlement
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, load_prices, record_calls, use
from tests.charged import all_charges
from usage import ingestion, intake_log
from usage.intake_log import Rejected, Repeated

HALF_A_DAY = timedelta(hours=12)


@pytest.fixture
def books(acme):
    """Acme with prices and books, and nothing else."""
    load_prices()
    accounts.open(organization=acme, now=MIDMONTH)
    return acme


@pytest.mark.django_db
def test_an_id_that_never_arrived_is_unknown(acme):
    for call_id in ("call_nowhere", "x" * 500, "nul \x00 byte", ""):
        found = call_traces.trace(acme.pk, call_id)
        assert found.is_unknown
        assert found.stage == "unknown"


@pytest.mark.django_db
def test_an_id_that_was_only_ever_rejected_says_why(acme):
    intake_log.note([Rejected(acme.pk, "call_1", 3, "duration_ms", "Expected `int`.")], [], now=MIDMONTH)
    found = call_traces.trace(acme.pk, "call_1")
    assert (found.stage, found.is_unknown, found.call) == ("rejected", False, None)
    assert found.intake.rejection.reason == "Expected `int`."


@pytest.mark.django_db
def test_a_call_goes_from_received_to_funded(books):
    record_calls(books, 3, starts_at=MIDMONTH, now=MIDMONTH + HALF_A_DAY)
    rated = call_traces.trace(books.pk, "call_1_1")
    assert rated.stage == "rated"
    assert rated.received_at == MIDMONTH + HALF_A_DAY
    assert rated.settlement is None
    settlement.settle_all(books.pk, now=MIDMONTH + 2 * HALF_A_DAY)
    funded = call_traces.trace(books.pk, "call_1_1")
    assert funded.stage == "funded"
    assert funded.settlement.settled_at == MIDMONTH + 2 * HALF_A_DAY
    assert funded.charge.sequence == 2
    assert funded.funding.accrued_micros == funded.charge.amount_micros
    assert (funded.batch, funded.invoice, funded.reported_at) == (None, None, None)


@pytest.mark.django_db
def test_a_call_without_a_price_waits_for_it(books):
    item = {
        "call_id": "call_strange",
        "organization": "acme",
        "call_type": "web_call",
        "call_status": "ended",
        "start_timestamp": MIDMONTH.isoformat(),
        "duration_ms": 1000,
        "products": ["gpt_99"],
    }
    ingestion.record([msgspec.json.encode(item)], now=MIDMONTH)
    found = call_traces.trace(books.pk, "call_strange")
    assert (found.stage, found.charge, found.received_at) == ("received", None, MIDMONTH)
    assert found.unrated.missing == ["gpt_99"]


@pytest.mark.django_db
def test_i16_another_organization_s_id_is_unknown(books, other):
    record_calls(books, 1, starts_at=MIDMONTH, now=MIDMONTH + HALF_A_DAY)
    intake_log.note([], [Repeated(books.pk, "call_1_0", False)], now=MIDMONTH)
    assert call_traces.trace(other.pk, "call_1_0").is_unknown


def test_a_month_s_calls_are_traced_to_the_payment(used):
    acme = used("acme")
    metering.write_reports(acme.pk, now=CLOSING)
    waiting = call_traces.trace(acme.pk, "call_1_7")
    assert waiting.stage == "funded"
    assert waiting.batch is not None
    assert {part.report.state for part in waiting.reported} == {Report.State.WAITING}
    invoice = invoice_of(acme)
    assert call_traces.trace(acme.pk, "call_1_7").invoice == invoice
    assert month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    for charge in all_charges(organization=acme)[:10]:
        found = call_traces.trace(acme.pk, charge.call.call_id)
        assert found.stage == "paid"
        assert found.invoice == invoice
        assert found.invoice.month == MONTH
        assert found.is_reported
        parts = sum(part.micros for part in found.reported), sum(part.micros for part in found.invoiced)
        assert parts == (charge.amount_micros, charge.amount_micros)
        assert {part.line.component for part in found.invoiced} == {part.report.component for part in found.reported}


def test_a_call_that_costs_nothing_is_traced_too(used):
    acme = used("acme")
    item = {
        "call_id": "call_missed",
        "organization": "acme",
        "call_type": "phone_call",
        "call_status": "not_connected",
        "start_timestamp": MIDMONTH.isoformat(),
        "duration_ms": 0,
        "products": ["platform"],
    }
    ingestion.record([msgspec.json.encode(item)], now=MIDMONTH + HALF_A_DAY)
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    found = call_traces.trace(acme.pk, "call_missed")
    assert (found.charge.amount_micros, found.reported, found.invoiced) == (0, [], [])
    assert found.stage == "paid"


def test_an_unpaid_invoice_is_as_far_as_the_call_has_come(used, stripe):
    acme = used("acme")
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    month_end.advance(invoice_of(acme), now=CLOSING)
    found = call_traces.trace(acme.pk, "call_1_7")
    assert (found.stage, found.invoice.state) == ("invoiced", Invoice.State.OPEN)


def test_a_call_that_was_invoiced_before_its_month_ended_names_that_invoice(limited, monkeypatch):
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = limited("acme")
    use(acme, 12, seed=1)
    assert call_traces.trace(acme.pk, "call_1_7").stage == "funded"
    interim_walk.advance_waiting(now=MIDMONTH + HALF_A_DAY)
    found = call_traces.trace(acme.pk, "call_1_7")
    assert (found.stage, found.invoice) == ("paid", None)
    assert found.interim == InterimInvoice.objects.get().invoice
    assert found.interim.paid_at is not None


@pytest.mark.django_db
def test_a_trace_asks_the_database_a_fixed_number_of_times(books, django_assert_max_num_queries):
    record_calls(books, 50, starts_at=MIDMONTH, now=MIDMONTH + HALF_A_DAY)
    settlement.settle_all(books.pk, now=MIDMONTH + HALF_A_DAY)
    with django_assert_max_num_queries(24):
        call_traces.trace(books.pk, "call_1_40")
