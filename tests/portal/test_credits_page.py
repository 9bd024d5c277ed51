"""The credits page: what is there, what is next, what was moved by whom and why."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.billing.models import Invoice, PaymentMethod
from billing_portal.ledger import accounts, checks, collections, credits, reversals, settlement
from billing_portal.ledger.models import Grant
from billing_portal.portal import credit_lots
from tests.billing import world

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(hours=3))
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now - timedelta(days=40))


def give(organization, micros, reference, now, *, kind=Grant.Kind.PREPAID, **fields):
    return credits.grant(organization=organization, kind=kind, micros=micros, reference=reference, now=now, **fields)


def page(client, organization, **query):
    return client.get(reverse("credits", args=[organization.public_id]), query)


def text_of(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_i05_lots_stand_in_the_order_in_which_they_are_spent(client, acme, books, now):
    give(acme, 40_000_000, "p", now)
    give(acme, 5_000_000, "g", now, kind=Grant.Kind.GOODWILL, expires_at=now + timedelta(days=3), reason="Outage")
    lots = page(client, acme).context["lots"]
    assert [(lot.grant.reference, lot.is_next, lot.days_left) for lot in lots] == [("g", True, 3), ("p", False, None)]
    text = text_of(page(client, acme))
    assert "Spent next" in text
    assert "Expires in 3 days" in text
    assert "Outage" in text


def test_what_became_of_every_lot_that_is_gone(client, acme, books, now):
    world.load_prices()
    spent = give(acme, 1_000, "spent", now, kind=Grant.Kind.CORRECTION)
    expired = give(acme, 7_000_000, "expired", now, expires_at=now + timedelta(hours=1))
    taken = give(acme, 3_000_000, "taken", now)
    world.record_calls(acme, 3, starts_at=now, now=now + timedelta(days=1))
    reversals.reverse_grant(organization=acme, grant_id=taken.pk, reason="Twice", reference="r", now=now)
    settlement.settle_all(acme.pk, now=now + timedelta(hours=2))
    ended = {lot.grant: lot for lot in page(client, acme).context["ended"]}
    assert ended[spent].spent_micros == 1_000
    assert ended[expired].expired_micros == 7_000_000  # not swept yet
    assert ended[taken].taken_back_micros == 3_000_000
    credits.expire(acme.pk, now=now + timedelta(hours=2))
    again = {lot.grant: lot for lot in page(client, acme).context["ended"]}
    assert again[expired].expired_micros == 7_000_000


def test_a_correction_and_what_staff_did_are_told_with_their_reason(client, acme, books, now):
    give(acme, 2_000_000, "c", now, kind=Grant.Kind.CORRECTION, reason="Call call_7 was 3 minutes shorter")
    grant = give(acme, 3_000_000, "g", now, kind=Grant.Kind.GOODWILL, reason="Outage")
    reversals.reverse_grant(organization=acme, grant_id=grant.pk, reason="It was given twice", reference="r", now=now)
    text = text_of(page(client, acme))
    for told in ("Call call_7 was 3 minutes shorter", "Goodwill credit taken back", "It was given twice", "−$3.00"):
        assert told in text


def test_months_are_paged_and_a_strange_month_is_the_present_one(client, acme, books, now):
    give(acme, 5_000_000, "early", now - timedelta(days=30))
    for query in ({}, {"month": "nonsense"}, {"month": "1999-01"}, {"month": "2026-13"}, {"month": "2026-10\x00"}):
        assert "Statement of October 2026" in text_of(page(client, acme, **query))
    september = page(client, acme, month="2026-09")
    assert "Statement of September 2026" in text_of(september)
    assert len(september.context["statement"].lines) == 1
    fragment = client.get(
        reverse("credits", args=[acme.public_id]), {"month": "2026-09"}, headers={"HX-Request": "true"}
    ).content.decode()
    assert "<html" not in fragment
    assert "Statement of September 2026" in fragment


def test_i16_a_payment_names_its_own_invoice_only(client, acme, other, books, now):
    for organization, stripe_id in ((acme, "in_own"), (other, "in_foreign")):
        Invoice.objects.create(
            organization=organization, stripe_invoice_id=stripe_id, number=stripe_id, currency="USD", drafted_at=now
        )
    for stripe_id in ("in_own", "in_foreign"):
        collections.collect(
            organization=acme, accrued_micros=5, paid_micros=5, reference=f"invoice:{stripe_id}", now=now
        )
    text = text_of(page(client, acme))
    assert "Payment of in_own" in text
    assert "in_foreign" not in text


def test_without_credit_the_page_says_whether_usage_goes_on(client, acme, books):
    text = text_of(page(client, acme))
    assert "Without a card, usage stops here" in text
    assert reverse("payment_methods", args=[acme.public_id]) in page(client, acme).content.decode()


def test_books_that_were_proved_say_so_and_others_do_not(client, acme, books, now):
    assert "books were proved" not in text_of(page(client, acme))
    checks.check(acme.pk, now=now)
    assert "books were proved on Oct 15, 2026, 09:30" in text_of(page(client, acme))


def test_a_frozen_account_says_so(client, acme, books, now):
    accounts.freeze(acme.pk, reason="1 difference", now=now)
    text = text_of(page(client, acme))
    assert "Usage is stopped" in text
    assert "does not add up" in text
    assert "1 difference" not in text


def test_how_long_credit_lasts_follows_the_pace_of_two_weeks(acme, books, now):
    assert credit_lots.lasts_until(books, 10_000_000, now=now) is None
    world.load_prices()
    give(acme, 50_000_000, "p", now)
    world.record_calls(acme, 10, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    spent = 50_000_000 - Grant.objects.get().remaining_micros
    assert credit_lots.lasts_until(books, 2 * spent, now=now) == now + timedelta(days=28)
    assert credit_lots.lasts_until(books, 1000 * spent, now=now) is None
    assert credit_lots.lasts_until(books, 0, now=now) is None


def test_credit_that_ends_goes_over_into_the_card_without_a_gap(client, acme, books, now):
    world.load_prices()
    give(acme, 100_000, "w", now, kind=Grant.Kind.WELCOME)
    PaymentMethod.objects.create(
        organization=acme, stripe_payment_method_id="pm_1", kind="card", is_default=True, created_at=now
    )
    world.record_calls(acme, 10, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    response = page(client, acme)
    assert response.context["authorization"].allowed
    assert response.context["balance"].credit_micros == 0
    assert response.context["balance"].accrued_micros > 0
    assert "goes on without interruption" in text_of(response)
    assert "Usage is stopped" not in text_of(response)


def test_credit_that_ends_without_a_card_stops_with_the_reason_and_the_way_out(client, acme, books, now):
    world.load_prices()
    give(acme, 100_000, "w", now, kind=Grant.Kind.WELCOME)
    world.record_calls(acme, 10, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    response = page(client, acme)
    assert "Your credit is used up and there is no card to go on with" in text_of(response)
    assert reverse("payment_method_add", args=[acme.public_id]) in response.content.decode()
