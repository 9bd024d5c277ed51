"""Discounts on the desk: previewed to the cent, above the limit by two, and read by the customer."""

import uuid
from datetime import date, timedelta

import pytest
from django.urls import reverse

from accounts import people
from billing_portal.billing import discounts
from billing_portal.billing.models import Discount
from billing_portal.ledger import accounts, settlement
from billing_portal.support import actions, kinds
from billing_portal.support.kinds.discounts import told
from tests.billing import world

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
TERMS = {"percent_hundredths": None, "amount_micros": None, "first_month": "2026-10-01", "months": 1}


@pytest.fixture
def staff(db):
    return [
        people.admit(email=f"{name}@desk.example", password="x", name=name, is_staff=True) for name in ("sam", "tess")
    ]


@pytest.fixture
def books(acme, now, monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    account = accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 12, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    return account


def ask(acme, by, now, *, kind="discount", **params):
    asked = {"kind": kinds.named(kind), "organization": acme, "params": params, "by": by, "now": now}
    return actions.ask(reason="Launch partner", public_id=uuid.uuid4(), **asked)


def test_a_small_one_is_entered_at_once_and_previewed_to_the_cent(acme, books, staff, now):
    params = TERMS | {"percent_hundredths": 2_000}
    changes = kinds.named("discount").preview(books, params, now=now)
    (figure,) = [each for each in changes if each.before_micros is not None]
    assert figure.after_micros == discounts.money.round_half_up(figure.before_micros // 10_000 * 8, 10) * 10_000
    done = ask(acme, staff[0], now, **params)
    assert (done.state, done.amount_micros) == ("done", done.amount_micros)
    found = Discount.objects.get()
    assert (found.percent_hundredths, found.reason, found.reference) == (2_000, "Launch partner", done.reference)
    assert told(found) == "20 % in October 2026 only"


def test_without_an_end_it_is_judged_as_a_year_and_waits_for_a_second_person(acme, books, staff, now):
    waiting = ask(acme, staff[0], now, **TERMS | {"amount_micros": 5_000_000, "months": None})
    assert (waiting.state, waiting.amount_micros) == ("waiting", 60_000_000)
    assert not Discount.objects.exists()
    actions.approve(waiting.public_id, by=staff[1], now=now)
    assert told(Discount.objects.get()) == "5.00 USD a month from October 2026 on, until it is ended"


def test_a_per_cent_without_usage_is_judged_by_what_may_be_owed(acme, staff, now):
    account = accounts.open(organization=acme, now=now)
    judged = kinds.named("discount").amount_micros(account, TERMS | {"percent_hundredths": 1_000}, now=now)
    assert judged == account.arrears_limit_micros // 10


def test_it_is_ended_from_a_month_on(acme, books, staff, now):
    ask(acme, staff[0], now, **TERMS | {"amount_micros": 1_000_000, "months": 6})
    found = Discount.objects.get()
    done = ask(acme, staff[0], now, kind="end_discount", discount=found.pk, before="2026-11-01")
    assert done.state == "done"
    assert (discounts.in_force(acme.pk, OCTOBER), discounts.in_force(acme.pk, NOVEMBER)) == ([found], [])


@pytest.mark.parametrize(
    ("entered", "complaint"),
    [
        ({}, "Enter either a per cent or an amount."),
        ({"percent": "10", "amount": "10"}, "Enter either a per cent or an amount."),
        ({"percent": "101"}, "less than or equal to 100"),
        ({"percent": "-1"}, "greater than or equal to 0.01"),
        ({"amount": "1.001"}, "no more than 2 decimal places"),
    ],
)
def test_bad_terms_are_refused_with_what_to_do(acme, books, now, entered, complaint):
    form = kinds.named("discount").form({"first_month": "2026-10-01", **entered}, account=books, now=now)
    assert not form.is_valid()
    assert complaint in str(form.errors)


def test_the_customer_reads_it_with_its_reason(acme, books, staff, now, client, alice):
    ask(acme, staff[0], now, **TERMS | {"percent_hundredths": 1_250, "months": 2})
    client.force_login(alice)
    text = client.get(reverse("credits", args=[acme.public_id])).content.decode()
    assert "12.5% off" in text
    assert "Launch partner" in text
