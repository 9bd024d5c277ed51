"""Meters and their prices at Stripe: made once, found again."""

from decimal import Decimal

import pytest

from billing_portal.billing import meters
from billing_portal.billing.models import Intent, Meter, MeterPrice
from tests.billing.world import MIDMONTH
from tests.stripe.conftest import RunningSandbox
from usage.models import Billable


@pytest.mark.parametrize(("currency", "price"), [("USD", "0.0001"), ("JPY", "0.000001"), ("KWD", "0.001")])
def test_every_component_is_priced_at_one_micro_a_unit(stripe: RunningSandbox, currency: str, price: str) -> None:
    made = meters.ensure(currency, now=MIDMONTH)
    assert [one.meter.component for one in made] == Billable.values
    for one in stripe.dump()["objects"]["price"]:
        assert Decimal(one["unit_amount_decimal"]) == Decimal(price)
        assert one["currency"] == currency.lower()


def test_i06_making_them_again_makes_nothing(stripe: RunningSandbox) -> None:
    first = meters.ensure("USD", now=MIDMONTH)
    before = stripe.dump()["objects"]
    assert meters.ensure("USD", now=MIDMONTH) == first
    assert stripe.dump()["objects"] == before


def test_a_second_currency_shares_the_meters(stripe: RunningSandbox) -> None:
    meters.ensure("USD", now=MIDMONTH)
    meters.ensure("EUR", now=MIDMONTH)
    assert Meter.objects.count() == len(Billable.values)
    assert MeterPrice.objects.count() == 2 * len(Billable.values)
    assert len(stripe.dump()["objects"]["billing.meter"]) == len(Billable.values)


def test_f14_meters_that_stripe_has_and_we_forgot_are_found(stripe: RunningSandbox) -> None:
    meters.ensure("USD", now=MIDMONTH)
    stripe_ids = set(Meter.objects.values_list("stripe_meter_id", flat=True))
    MeterPrice.objects.all().delete()
    Meter.objects.all().delete()
    Intent.objects.all().delete()
    meters.ensure("USD", now=MIDMONTH)
    assert set(Meter.objects.values_list("stripe_meter_id", flat=True)) == stripe_ids


def test_f17_a_timeout_after_the_effect_makes_no_second_meter(stripe: RunningSandbox) -> None:
    from billing_portal.billing import gateway

    stripe.faults(timeout_next={"when": "after", "seconds": 5, "path": "/v1/billing/meters", "count": 1})
    with pytest.raises(gateway.Unavailable):
        meters.ensure("USD", now=MIDMONTH)
    meters.ensure("USD", now=MIDMONTH)
    assert len(stripe.dump()["objects"]["billing.meter"]) == len(Billable.values)
