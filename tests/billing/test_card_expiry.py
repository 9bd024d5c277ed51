"""Letters before a card expires: at the right days, once each, for the card that is charged."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import Letter
from billing_portal.billing import card_expiry
from billing_portal.billing.models import PaymentMethod

pytestmark = pytest.mark.django_db


def save(organization, now, **fields):
    facts = {"kind": "card", "brand": "visa", "last4": "4242", "is_default": True, "created_at": now}
    return PaymentMethod.objects.create(
        organization=organization, stripe_payment_method_id=f"pm_{fields.get('last4', '4242')}", **{**facts, **fields}
    )


def test_each_warning_is_written_once_and_a_renewed_card_is_warned_of_again(acme, now):
    card = save(acme, now, expires_year=2026, expires_month=12)
    save(acme, now, expires_year=2026, expires_month=12, last4="1111", is_default=False)
    written = []
    day = datetime(2026, 11, 15, 12, tzinfo=UTC)
    while day < datetime(2027, 1, 20, tzinfo=UTC):
        if card_expiry.warn(now=day):
            written.append((datetime(2026, 12, 31, 12, tzinfo=UTC) - day).days)
        assert card_expiry.warn(now=day) == 0
        day += timedelta(days=1)
    assert written == [30, 7]
    assert Letter.objects.order_by("id").first().subject == "Visa 4242 of Acme Robotics expires in 30 days"
    PaymentMethod.objects.filter(pk=card.pk).update(expires_year=2027, expires_month=1)
    assert card_expiry.warn(now=datetime(2027, 1, 20, tzinfo=UTC)) == 1


@pytest.mark.parametrize(("zone", "when"), [("UTC", "today"), ("America/Los_Angeles", "tomorrow")])
def test_f45_the_last_day_is_the_customer_s(make_organization, alice, now, zone, when):
    organization = make_organization("zoned", owner=alice, time_zone=zone)
    save(organization, now, expires_year=2028, expires_month=2)
    assert card_expiry.warn(now=datetime(2028, 2, 29, 4, tzinfo=UTC)) == 1
    letter = Letter.objects.get()
    assert letter.subject.endswith(f"expires {when}")
    assert "29" in letter.text
