"""The results board's figures, each from its parts."""

from datetime import UTC, date, datetime, timedelta

import pytest

from billing_portal.billing import results
from billing_portal.billing.models import Invoice, Overdue, PaymentAttempt
from billing_portal.billing.results import Share
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Finding, Grant

pytestmark = pytest.mark.django_db
FEBRUARY = date(2027, 2, 1)
FIRST = datetime(2027, 2, 1, tzinfo=UTC)


def invoice(organization, number, *, due, paid=0, at=FIRST, took=None, state="open", **fields):
    return Invoice.objects.create(
        organization=organization,
        stripe_invoice_id=f"in_{number}",
        month=date(2026, number, 1),
        currency="USD",
        state=state,
        amount_due_minor=due,
        amount_paid_minor=paid,
        drafted_at=at,
        finalized_at=at,
        paid_at=at + took if took else None,
        **fields,
    )


def attempt(organization, number, *, state="succeeded", amount=1_000, at=FIRST, **fields):
    return PaymentAttempt.objects.create(
        organization=organization,
        stripe_charge_id=f"ch_{number}",
        state=state,
        amount_minor=amount,
        currency="USD",
        attempted_at=at,
        **fields,
    )


@pytest.fixture
def month(acme, other, now):
    """February of two organizations; its neighbors, drafts and another currency count for nothing."""
    for each in (acme, other):
        accounts.open(organization=each, now=now)
        credits.grant(organization=each, kind=Grant.Kind.WELCOME, micros=1, reference="welcome", now=FIRST)
    invoice(acme, 1, due=6_000, paid=6_000, state="paid", took=timedelta(days=1))
    rescued = invoice(acme, 2, due=3_000, paid=3_000, state="paid", took=timedelta(days=3))
    lost = invoice(other, 3, due=1_000, paid=400)
    invoice(other, 4, due=9_000, at=FIRST - timedelta(microseconds=1))
    invoice(other, 5, due=9_000, state="void")
    for failed in (rescued, lost):
        Overdue.objects.create(
            organization=failed.organization, invoice=failed, failed_at=FIRST, stops_at=FIRST + timedelta(days=14)
        )
    attempt(acme, 1, amount=6_000, kind="card")
    attempt(acme, 2, amount=3_000, kind="link")
    attempt(acme, 3, state="failed", outcome="issuer_declined")
    attempt(other, 4, state="failed", outcome="blocked", amount=77_000)
    attempt(other, 5, amount=500, state="pending")
    attempt(other, 6, amount=500, state="failed", at=FIRST + timedelta(days=28))
    PaymentAttempt.objects.filter(pk=attempt(other, 7, state="failed").pk).update(currency="JPY")


def test_every_figure_is_what_its_definition_says(month, now):
    assert results.of_month(FEBRUARY, currency="USD", now=now) == {
        "unpaid": Share(600, 10_000),
        "authorized": Share(2, 3),
        "recovered": Share(3_000, 4_000),
        "link": Share(3_000, 9_000),
        "blocked": 77_000,
        "days_to_pay": timedelta(days=2),
        "converted": Share(1, 2),
    }


def test_a_month_in_which_nothing_happened_has_no_shares(db, now):
    found = results.of_month(FEBRUARY, currency="USD", now=now)
    assert {value.percent if isinstance(value, Share) else value for value in found.values()} == {None, 0}
    assert results.months(3, now=datetime(2027, 1, 31, 23, tzinfo=UTC)) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
    ]


def test_hours_run_from_the_last_difference_and_stand_still_while_one_is_open(acme, now):
    assert results.hours_without_difference(now=now) is None
    finding = Finding.objects.create(
        organization=acme, law="I1", subject="x", expected=1, found=2, noticed_at=now - timedelta(hours=30)
    )
    assert results.hours_without_difference(now=now) == 0
    finding.resolved_at = now
    finding.save()
    assert results.hours_without_difference(now=now) == 30
