"""What a granted dispute gives back is what the calls cost after discounts: to the micro, and with their tax."""

import tomllib
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import people
from billing_portal.billing import discount_shares, discounts
from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute, Invoice, InvoiceLine
from billing_portal.ledger import accounts, settling, totals, verification
from billing_portal.ledger.models import Grant
from tests.billing import world
from tests.billing.test_corrections import correct
from tests.ledger.test_buckets import resolve
from tests.usage.outcomes.conftest import DOCUMENT
from tests.usage.test_comparisons import _folder, as_csv, as_rows, compared, ours  # noqa: F401 - a fixture among them
from usage import calls
from usage.comparisons import jobs
from usage.outcomes import rules

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)
NOVEMBER = datetime(2026, 11, 1, 1, tzinfo=UTC)
CALLS = [f"call_1_{number}" for number in range(9)]
TALKS = ["c_1", "c_2", "c_3"]


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def used(acme, now):
    """Acme with October's calls and outcomes, settled; October goes on."""
    world.load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=now)
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, len(CALLS), starts_at=now, now=now + timedelta(days=1))
    resolve(acme, *TALKS, now=now + timedelta(days=1))
    settling.settle_all(acme.pk, now=now + timedelta(days=1))
    return acme


@pytest.fixture
def sam(db):
    return people.admit(email="sam@desk.example", password="x", name="Sam Stone", is_staff=True)


def enter(organization, now, **terms):
    given = {"percent_hundredths": None, "amount_micros": None, "months": 1} | terms
    discounts.enter(
        organization=organization, first_month=OCTOBER, reason="Partner", reference=str(given), now=now, **given
    )


def close(organization):
    discounts.close_month(organization.pk, OCTOBER, now=NOVEMBER)


def cost(organization, kind, reference):
    return subjects.find(organization, kind, reference).amount_micros


def disputed(organization, by, now, *, kind="call", reference="call_1_2", micros=None):
    return cases.open(
        organization=organization,
        kind=kind,
        reference=reference,
        reason="never_happened",
        text="Nobody called.",
        claimed_micros=micros or cost(organization, kind, reference),
        public_id=uuid.uuid4(),
        by=by,
        now=now,
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(percent=st.integers(1, 10_000), cents=st.integers(0, 2_000), is_closed=st.booleans())
def test_i11_what_all_calls_and_conversations_cost_is_the_month_after_its_discounts(
    used, now, percent, cents, is_closed
):
    with transaction.atomic():
        enter(used, now, percent_hundredths=percent)
        if cents:
            enter(used, now, amount_micros=cents * 10_000)
        if is_closed:
            close(used)
        found = [subjects.find(used, "call", each) for each in CALLS]
        found += [subjects.find(used, "conversation", each) for each in TALKS]
        assert all(0 <= each.amount_micros <= each.price_micros for each in found)
        month = totals.month(used.pk, OCTOBER)
        taken = sum(discount_shares.by_component(used.pk, OCTOBER, "USD").values())
        assert sum(each.price_micros for each in found) == month.gross_micros
        assert sum(each.amount_micros for each in found) == month.gross_micros - taken
        if is_closed:
            assert sum(each.amount_micros for each in found) == month.accrued_micros
        transaction.set_rollback(True)


def test_a_granted_dispute_gives_back_what_the_call_cost_and_not_its_list_price(used, alice, sam, now):
    enter(used, now, percent_hundredths=2_500)
    close(used)
    subject = subjects.find(used, "call", "call_1_2")
    assert abs(subject.amount_micros * 4 - subject.price_micros * 3) < 30_000  # whole cents a component
    with pytest.raises(cases.NotDisputable, match="less than that"):
        disputed(used, alice, NOVEMBER, micros=subject.amount_micros + 1)
    dispute = disputed(used, alice, NOVEMBER)
    with pytest.raises(cases.TooMuch):
        cases.grant(dispute, micros=subject.price_micros, decision="Yes", by=sam, now=NOVEMBER)
    cases.grant(dispute, micros=subject.amount_micros, decision="Yes", by=sam, now=NOVEMBER)
    assert Grant.objects.get().amount_micros == subject.amount_micros
    assert list(verification.verify(used.pk)) == []


def test_what_discounts_took_later_is_no_correction(used, alice, sam, now):
    dispute = disputed(used, alice, now)
    price = dispute.amount_micros
    enter(used, now, percent_hundredths=5_000)
    close(used)
    most, was_corrected = cases.givable(dispute)
    assert (most < price, was_corrected) == (True, False)
    with pytest.raises(cases.TooMuch):
        cases.grant(dispute, micros=0, decision="Yes", by=sam, now=NOVEMBER)
    Dispute.objects.update(price_micros=None)  # as those that were opened before prices were kept
    dispute.refresh_from_db()
    assert cases.givable(dispute) == (most, False)


def test_of_a_free_month_there_is_nothing_to_give_back(used, alice, now):
    enter(used, now, percent_hundredths=10_000)
    close(used)
    assert {cost(used, "call", each) for each in CALLS} == {0}
    with pytest.raises(cases.NotDisputable, match="Nothing of it is left"):
        disputed(used, alice, NOVEMBER, micros=1)


def test_f48_of_a_corrected_call_the_rest_of_what_it_cost_is_left(used, now):
    """The correction gave back list price as credit; what can still be disputed is what is left of its cost."""
    enter(used, now, percent_hundredths=2_000)
    close(used)
    before = subjects.find(used, "call", "call_1_2")
    duration_ms = calls.find(used.pk, "call_1_2").duration_ms
    correct(used, "call_1_2", now=NOVEMBER, duration_ms=duration_ms * 3 // 4)
    settling.settle_all(used.pk, now=NOVEMBER)
    after = subjects.find(used, "call", "call_1_2")
    given = Grant.objects.get().amount_micros
    assert before.amount_micros - given == after.amount_micros > 0
    correct(used, "call_1_2", now=NOVEMBER, call_status="cancelled")
    settling.settle_all(used.pk, now=NOVEMBER)
    assert cost(used, "call", "call_1_2") == 0


def test_a_line_costs_what_its_discount_left_of_it_and_a_class_of_a_log_what_its_calls_do(
    used, alice, now, monkeypatch
):
    enter(used, now, percent_hundredths=3_000)
    log = ours(used, len(CALLS))
    done = compared(used, alice, now, as_csv(as_rows(list(log.items())[:5])).encode())
    assert jobs.totals(done)["missing_there"].calls == 4
    close(used)
    reference = f"{done.public_id}/missing_there"
    assert cost(used, "comparison", reference) == sum(cost(used, "call", each) for each in CALLS[5:])
    # Of more than a page can wait for it is the part of the month.
    monkeypatch.setattr(subjects, "_MOST_COMPARED", 1)
    month, found = totals.month(used.pk, OCTOBER), subjects.find(used, "comparison", reference)
    assert found.discounted_micros == pytest.approx(
        found.price_micros * (month.gross_micros - month.accrued_micros) / month.gross_micros, abs=1
    )

    invoice = Invoice.objects.create(
        organization=used, stripe_invoice_id="in_1", month=OCTOBER, currency="USD", total_minor=14_00, drafted_at=now
    )
    for position, (kind, grant_kind, amount) in enumerate(
        [("usage", "", 20_00), ("credit", "welcome", -3_00), ("credit", "discount", -5_00), ("credit", "discount", -1)]
    ):
        InvoiceLine.objects.create(
            organization=used,
            invoice=invoice,
            stripe_line_id=f"il_{position}",
            position=position,
            kind=kind,
            grant_kind=grant_kind,
            component="voice",
            amount_minor=amount,
            currency="USD",
        )
    Invoice.objects.filter(pk=invoice.pk).update(state="open")
    assert cost(used, "invoice_line", subjects.line_reference(invoice, "voice")) == 14_990_000
