"""Buckets upgraded and renewed: what is paid, what is given, and when somebody is told (F50, I13)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from accounts.models import Letter
from billing_portal.billing import (
    bucket_offers,
    bucket_renewal_orders,
    bucket_renewals,
    bucket_sales,
    purchase_payment,
    purchases,
)
from billing_portal.billing.models import BucketOffer, BucketRenewal, PaymentMethod, Purchase
from billing_portal.ledger import accounts, buckets, verification
from billing_portal.ledger.models import Bucket
from tests.billing.test_buckets_bought import DOCUMENT, ask, assert_sound, offer_in_usd
from tests.billing.world import MIDMONTH, Buyer, save_card
from tests.stripe.conftest import RunningSandbox

MakeBuyer = Callable[..., Buyer]
END = MIDMONTH.replace(year=2028)
DAY = timedelta(days=1)


def credited(purchase: Purchase, *, now: datetime = MIDMONTH) -> Bucket:
    """Do what the walk does once Stripe has the money; return the bucket."""
    purchases.move(purchase, Purchase.State.PAID, now=now)
    purchases.credit(purchase, now=now)
    purchase.refresh_from_db()
    assert purchase.bucket is not None
    return purchase.bucket


@pytest.fixture
def shop(db: None, acme: Any, alice: Any, now: datetime) -> Buyer:
    """Acme with books and a card that is only here; the sample's offers are on sale."""
    accounts.open(organization=acme, now=now)
    bucket_offers.load(DOCUMENT, now=MIDMONTH)
    card = PaymentMethod.objects.create(
        organization=acme, stripe_payment_method_id="pm_1", kind="card", is_default=True, created_at=now
    )
    return Buyer(acme, alice, card)


def usd(code: str) -> BucketOffer:
    return BucketOffer.objects.get(code=code, currency="USD")


def bought(shop: Buyer, **fields: Any) -> Bucket:
    return credited(ask(shop, usd("resolutions-1000"), **fields))


def letters() -> list[str]:
    return list(Letter.objects.order_by("id").values_list("subject", flat=True))


# ── Upgrades ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f50_an_upgrade_costs_the_difference_and_adds_the_difference(shop: Buyer) -> None:
    small = bought(shop)
    larger = bucket_sales.upgrades_of(small, now=MIDMONTH)
    assert [(each.units, each.price_micros) for each in larger] == [
        (4_000, 3_260_000_000),
        (24_000, 17_610_000_000),
        (99_000, 64_110_000_000),
    ]
    asked = ask(shop, usd("resolutions-5000"), upgrades=small)
    assert asked.amount_micros == 3_260_000_000
    assert asked.title == "Upgrade to: Bucket of 5,000 resolutions, 12 months"
    large = credited(asked, now=MIDMONTH + DAY)
    small.refresh_from_db()
    assert (small.remaining_units, large.remaining_units, large.size) == (0, 5_000, 5_000)
    assert (large.starts_at, large.expires_at) == (small.starts_at, small.expires_at)
    # The next one costs the difference to that.
    assert [each.units for each in bucket_sales.upgrades_of(large, now=MIDMONTH)] == [20_000, 95_000]
    assert bucket_sales.upgrades_of(small, now=MIDMONTH) == []
    assert list(verification.verify(shop.organization.pk)) == []


def test_an_upgrade_to_what_is_no_larger_or_of_another_kind_or_of_a_foreign_bucket_is_refused(
    shop: Buyer, make_organization: Any
) -> None:
    small = bought(shop)
    for code in ("resolutions-1000", "qualifications-500"):
        with pytest.raises(bucket_sales.UpgradeRefused):
            ask(shop, usd(code), upgrades=small)
    stranger = make_organization("stranger")
    accounts.open(organization=stranger, now=MIDMONTH)
    with pytest.raises(bucket_sales.UpgradeRefused):
        ask(Buyer(stranger, shop.owner, None), usd("resolutions-5000"), upgrades=small)
    with pytest.raises(bucket_sales.UpgradeRefused):
        ask(shop, usd("resolutions-5000"), upgrades=small, now=END - timedelta(days=6))
    assert Purchase.objects.count() == 1


def test_f50_an_upgrade_paid_after_the_term_lasts_as_long_as_was_sold(shop: Buyer) -> None:
    small = bought(shop)
    asked_at, paid_at = END - timedelta(days=8), END + timedelta(days=2)
    large = credited(ask(shop, usd("resolutions-5000"), upgrades=small, now=asked_at), now=paid_at)
    assert (large.size, large.expires_at) == (4_000, paid_at + timedelta(days=8))


def test_i13_an_upgrade_goes_through_stripe_once(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    first = ask(acme, offer)
    purchase_payment.advance(first, now=MIDMONTH)
    asked = ask(acme, usd("resolutions-5000"), upgrades=first.bucket, renews=True)
    for _ in range(2):
        purchase_payment.advance(asked, now=MIDMONTH + DAY)
    assert asked.bucket is not None
    assert asked.bucket.replaces == first.bucket
    assert bucket_renewal_orders.in_force(asked.bucket) is not None
    assert_sound(acme, stripe)


# ── Renewal ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_renewal_chosen_with_the_purchase_begins_with_the_bucket_and_can_be_ended_and_begun(shop: Buyer) -> None:
    bucket = bought(shop, renews=True)
    order = bucket_renewal_orders.in_force(bucket)
    assert order is not None
    assert (order.accepted_by, order.offer) == (shop.owner, usd("resolutions-1000"))
    assert "two days before its term ends" in order.mandate_text
    bucket_renewals.switch_off(bucket, user=shop.owner, now=MIDMONTH)
    assert bucket_renewal_orders.in_force(bucket) is None
    again = bucket_renewals.switch_on(bucket, user=shop.owner, now=MIDMONTH)
    assert bucket_renewals.switch_on(bucket, user=shop.owner, now=MIDMONTH) == again
    order.refresh_from_db()
    assert (order.ended_by, order.ended_at) == (shop.owner, MIDMONTH)


def test_notice_is_given_30_and_7_days_before_each_once_with_the_price_that_is_charged(shop: Buyer) -> None:
    bought(shop, renews=True)
    entry = DOCUMENT["offers"][0] | {"starts_at": END - timedelta(days=60), "prices": {"USD": "950.00"}}
    bucket_offers.load({"offers": [entry]}, now=MIDMONTH)
    assert bucket_renewals.notify(now=END - timedelta(days=31)) == 0
    assert bucket_renewals.notify(now=END - timedelta(days=30)) == 1
    assert letters() == ["A bucket of 1,000 resolutions is renewed in 30 days for $950.00: Acme Robotics"]
    # What was told stays, whatever is on sale by then.
    cheaper = entry | {"starts_at": END - timedelta(days=20), "prices": {"USD": "10.00"}}
    bucket_offers.load({"offers": [cheaper]}, now=MIDMONTH)
    assert bucket_renewals.notify(now=END - timedelta(days=12)) == 0
    assert bucket_renewals.notify(now=END - timedelta(days=7)) == 1
    assert bucket_renewals.notify(now=END - timedelta(days=6)) == 0
    assert letters()[1] == "A bucket of 1,000 resolutions is renewed in 7 days for $950.00: Acme Robotics"
    assert "Do not renew" in Letter.objects.order_by("id")[1].text
    assert bucket_renewals.buy_due(now=END - timedelta(days=2, seconds=1)) == []
    [asked] = bucket_renewals.buy_due(now=END - timedelta(days=2))
    assert (asked.amount_micros, asked.origin) == (950_000_000, "renewal")
    assert bucket_renewals.buy_due(now=END - timedelta(days=1)) == []


def test_a_term_that_ends_without_a_renewal_is_told_while_something_is_left(shop: Buyer) -> None:
    bucket = bought(shop)
    assert bucket_renewals.notify(now=END - timedelta(days=29)) == 1
    assert letters() == ["1,000 resolutions expire in 29 days: Acme Robotics"]
    Bucket.objects.filter(pk=bucket.pk).update(remaining_units=0)
    assert bucket_renewals.notify(now=END - timedelta(days=5)) == 0
    assert bucket_renewals.buy_due(now=END - DAY) == []


def test_f50_a_renewed_bucket_begins_when_the_one_before_ends_and_is_renewed_again(shop: Buyer) -> None:
    bucket = bought(shop, renews=True)
    [asked] = bucket_renewals.buy_due(now=END - DAY)
    following = credited(asked, now=END - DAY)
    assert (following.starts_at, following.expires_at) == (bucket.expires_at, END.replace(year=2029))
    assert not buckets.pays_for(following, "resolution", END - timedelta(microseconds=1))
    assert buckets.pays_for(following, "resolution", END)
    assert not buckets.pays_for(bucket, "resolution", END)
    assert bucket_renewal_orders.in_force(bucket) is None
    assert bucket_renewal_orders.in_force(following) is not None
    assert letters()[-1] == "Your bucket of 1,000 resolutions is renewed: Acme Robotics"
    assert bucket_renewals.buy_due(now=END) == []


def test_a_renewal_paid_late_begins_with_its_payment(shop: Buyer) -> None:
    bought(shop, renews=True)
    [asked] = bucket_renewals.buy_due(now=END - DAY)
    assert credited(asked, now=END + DAY).starts_at == END + DAY


def test_without_a_card_or_an_offer_the_renewal_ends_and_says_why(shop: Buyer) -> None:
    bucket = bought(shop, renews=True)
    PaymentMethod.objects.all().update(removed_at=MIDMONTH, is_default=False)
    assert bucket_renewals.buy_due(now=END - DAY) == []
    assert BucketRenewal.objects.get().ended_reason == "There is no card to charge."
    assert letters() == ["Your bucket of 1,000 resolutions is not renewed: Acme Robotics"]
    with pytest.raises(purchases.CardNeeded):
        bucket_renewals.switch_on(bucket, user=shop.owner, now=MIDMONTH)
    BucketOffer.objects.update(ends_at=END - timedelta(days=40))
    with pytest.raises(bucket_renewals.RenewalRefused):
        bucket_renewals.switch_on(bucket, user=shop.owner, now=MIDMONTH)


def test_ended_while_it_is_charged_it_is_given_up_and_paid_after_all_it_is_not_renewed_again(shop: Buyer) -> None:
    bucket = bought(shop, renews=True)
    [asked] = bucket_renewals.buy_due(now=END - DAY)
    assert bucket_renewals.switch_off(bucket, user=shop.owner, now=END - DAY) == asked
    asked.refresh_from_db()
    assert asked.is_given_up
    following = credited(asked, now=END - DAY)
    assert bucket_renewal_orders.in_force(following) is None


def test_f50_an_upgrade_takes_the_renewal_with_it_if_that_is_wanted(shop: Buyer) -> None:
    small = bought(shop, renews=True)
    large = credited(ask(shop, usd("resolutions-5000"), upgrades=small, renews=True))
    assert bucket_renewal_orders.in_force(small) is None
    order = bucket_renewal_orders.in_force(large)
    assert order is not None
    assert order.offer == usd("resolutions-5000")
    with pytest.raises(bucket_renewals.RenewalRefused):
        bucket_renewals.switch_on(small, user=shop.owner, now=MIDMONTH)
    assert bucket_renewals.notify(now=END - timedelta(days=29)) == 1


def test_f35_a_renewal_is_charged_to_the_card_of_then_declined_tried_again_and_ended_with_notice(
    stripe: RunningSandbox, buyer: MakeBuyer
) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    purchase_payment.advance(ask(acme, offer, renews=True), now=MIDMONTH)
    save_card(acme.organization, "pm_card_chargeCustomerFail", now=MIDMONTH)
    stripe.advance_to((END - 2 * DAY).timestamp())
    [asked] = bucket_renewals.buy_due(now=END - 2 * DAY)
    for hours in (0, 1, 9, 33):
        purchase_payment.advance(asked, now=END - 2 * DAY + timedelta(hours=hours))
    assert (asked.state, asked.declines, asked.bucket) == ("failed", 4, None)
    assert not BucketRenewal.objects.filter(ended_at=None).exists()
    assert letters()[-1].startswith("Your bucket of 1,000 resolutions is not renewed")
    assert Bucket.objects.count() == 1
