"""Estimates in the customer's currency: from a rate with a day and a source, and never money."""

from datetime import date, timedelta
from fractions import Fraction

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_portal.billing import local_prices, minor_units
from billing_portal.billing.local_prices import LocalRate
from billing_portal.billing.models import ExchangeRate
from billing_portal.billing.tax import details
from billing_portal.ledger import accounts

TODAY = date(2026, 10, 20)


def rate(base: str, quote: str, micros: int, *, as_of: date = TODAY, source: str = "ECB") -> ExchangeRate:
    return ExchangeRate.objects.create(base=base, quote=quote, quote_micros=micros, as_of=as_of, source=source)


@settings(max_examples=60)
@given(
    micros=st.integers(1, 10**13),
    currency=st.sampled_from(["JPY", "KWD", "EUR"]),
    value=st.fractions(Fraction(1, 1000), Fraction(10_000)),
)
def test_f42_an_estimate_is_near_and_is_an_amount_of_its_currency(micros, currency, value):
    found = LocalRate("USD", currency, value, TODAY, "ECB").about(micros)
    unit, exact = minor_units.micros_per_unit(currency), micros * value
    assert found % unit == 0
    assert found >= unit
    assert abs(found - exact) <= max(unit, exact / 150)


@pytest.mark.parametrize(
    ("currency", "micros", "about"),
    [("JPY", 9_871_000, 1_480_000_000), ("KWD", 50_000_000, 15_400_000), ("EUR", 50_000_000, 46_300_000)],
)
def test_it_has_three_digits_that_count(currency, micros, about):
    value = {"JPY": Fraction("150.2"), "KWD": Fraction("0.3079"), "EUR": Fraction("0.926")}[currency]
    assert LocalRate("USD", currency, value, TODAY, "ECB").about(micros) == about


@pytest.mark.django_db
def test_a_rate_is_the_newest_and_none_is_too_old():
    rate("USD", "JPY", 149_000_000, as_of=TODAY - timedelta(days=9))
    rate("USD", "JPY", 150_200_000, as_of=TODAY - timedelta(days=2))
    rate("USD", "JPY", 151_000_000, as_of=TODAY + timedelta(days=1))
    assert local_prices.rate("USD", "JPY", today=TODAY).rate == Fraction("150.2")
    assert local_prices.rate("JPY", "USD", today=TODAY).rate == 1 / Fraction("150.2")
    assert local_prices.rate("USD", "JPY", today=TODAY + timedelta(days=47)) is None


@pytest.mark.django_db
def test_two_currencies_meet_over_a_third_of_the_same_day():
    rate("EUR", "USD", 1_080_000)
    rate("EUR", "JPY", 162_000_000)
    found = local_prices.rate("USD", "JPY", today=TODAY)
    assert (found.rate, found.source, found.unit_micros) == (150, "ECB", 150_000_000)
    ExchangeRate.objects.filter(quote="JPY").update(as_of=TODAY - timedelta(days=1))
    assert local_prices.rate("USD", "JPY", today=TODAY) is None


@pytest.mark.django_db
def test_the_database_refuses_what_is_no_rate():
    for base, quote, micros in (("USD", "USD", 1), ("USD", "JPY", 0), ("usd", "JPY", 1)):
        with pytest.raises(IntegrityError), transaction.atomic():
            rate(base, quote, micros)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("zone", "currency"), [("Asia/Tokyo", "JPY"), ("Asia/Kuwait", "KWD"), ("Europe/Berlin", "EUR"), ("UTC", "")]
)
def test_the_customers_currency_is_that_of_their_clocks(acme, now, zone, currency):
    acme.time_zone = zone
    assert local_prices.currency_of(acme, now=now) == currency


@pytest.mark.django_db
@pytest.mark.parametrize(("country", "currency"), [("CH", "CHF"), ("GB", "GBP"), ("ZZ", "")])
def test_a_billing_address_says_more_than_clocks(acme, now, country, currency):
    acme.time_zone = "Asia/Tokyo"
    details.change(acme, user=None, legal_name="Acme", address={"country": country}, now=now)
    assert local_prices.currency_of(acme, now=now) == currency


@pytest.mark.django_db
def test_the_purchase_page_shows_an_estimate_with_its_day_and_source(acme, now, client, alice):
    accounts.open(organization=acme, now=now)
    client.force_login(alice)
    page = reverse("buy_credit", args=[acme.public_id]) + "?amount=50"
    acme.time_zone = "Asia/Tokyo"
    acme.save()
    assert "about" not in client.get(page, headers={"hx-request": "true"}).content.decode()
    rate("USD", "JPY", 150_200_000, as_of=now.date())
    text = " ".join(client.get(page, headers={"hx-request": "true"}).content.decode().split())
    assert "about ¥7,510" in text
    assert "1 USD was ¥150.2 on" in text
    assert "(ECB)" in text
