"""Buckets bought, upgraded and renewed, killed with SIGKILL at each place in turn, again and again on the way.

Who goes on where one died dies at the next place. In the end there is one charge and one bucket for each purchase.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from billing_portal.billing import bucket_renewal_orders, purchase_payment
from billing_portal.billing.models import BucketRenewal, Purchase
from billing_portal.ledger.models import Bucket
from tests.billing import killing
from tests.billing.killing import of_write, until_effect
from tests.billing.test_bucket_renewals import END, usd
from tests.billing.test_buckets_bought import MakeBuyer, ask, assert_sound, offer_in_usd
from tests.billing.world import MIDMONTH, Buyer
from tests.stripe.conftest import RunningSandbox

DUE = END - timedelta(days=2)
CARD = [*of_write(":invoice"), *of_write(":line"), *until_effect(":finalize"), *until_effect(":pay:1")]
GIVING = ["before billing.purchases.credit", "before billing.bucket_deliveries.deliver"]
ENDING = ["after billing.bucket_deliveries.deliver", "after billing.purchases.credit"]


@pytest.fixture
def victim(stripe: RunningSandbox) -> Iterator[killing.Victim]:
    with killing.victim(STRIPE_API_BASE=stripe.url) as running:
        yield running


@pytest.fixture
def owner_of_a_bucket(stripe: RunningSandbox, buyer: MakeBuyer) -> Buyer:
    """Acme, with a bucket of a thousand that is renewed."""
    acme = buyer("acme")
    assert purchase_payment.advance(ask(acme, offer_in_usd(), renews=True), now=MIDMONTH)
    return acme


def recover(*, now: datetime) -> None:
    for minutes in range(1, 4):
        purchase_payment.advance_waiting(now=now + timedelta(minutes=minutes))
    assert set(Purchase.objects.values_list("state", flat=True)) == {"credited"}


@pytest.mark.long
def test_f14_i13_a_bucket_killed_at_every_step_is_charged_and_given_once(
    stripe: RunningSandbox, buyer: MakeBuyer, victim: killing.Victim
) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    purchase = ask(acme, offer, renews=True)
    giving = [*GIVING, "after ledger.buckets.add", "after billing.bucket_renewal_orders.accept", *ENDING]
    for place in [*CARD, *giving]:
        victim.kill(place, "buy", purchase.pk, now=MIDMONTH)
    recover(now=MIDMONTH)
    assert_sound(acme, stripe)
    assert BucketRenewal.objects.get().bucket == Bucket.objects.get()


@pytest.mark.long
def test_f14_f50_an_upgrade_killed_while_it_is_charged_and_given_carries_each_unit_once(
    stripe: RunningSandbox, owner_of_a_bucket: Buyer, victim: killing.Victim
) -> None:
    small = Bucket.objects.get()
    asked = ask(owner_of_a_bucket, usd("resolutions-5000"), upgrades=small, renews=True)
    giving = [*GIVING, "after ledger.buckets.upgrade", "after billing.bucket_renewal_orders.end", *ENDING]
    for place in [*until_effect(":pay:1"), *giving]:
        victim.kill(place, "buy", asked.pk, now=MIDMONTH)
    recover(now=MIDMONTH)
    assert_sound(owner_of_a_bucket, stripe)
    large = Bucket.objects.get(replaces=small)
    small.refresh_from_db()
    assert (small.remaining_units, large.size, large.remaining_units) == (0, 5_000, 5_000)
    assert bucket_renewal_orders.in_force(small) is None
    assert bucket_renewal_orders.in_force(large) is not None


@pytest.mark.long
def test_f14_f23_a_renewal_killed_at_every_step_is_bought_once_and_goes_on(
    stripe: RunningSandbox, owner_of_a_bucket: Buyer, victim: killing.Victim
) -> None:
    first = Bucket.objects.get()
    stripe.advance_to(DUE.timestamp())
    asking = ["before billing.bucket_renewals._buy", "after billing.purchases.ask_for_renewal"]
    for place in [*asking, "after billing.bucket_renewals._buy"]:
        victim.kill(place, "renew", 0, now=DUE)
    asked = Purchase.objects.get(origin="renewal")
    for place in [*CARD, *GIVING, "after ledger.buckets.add", "after billing.bucket_renewal_orders.follow", *ENDING]:
        victim.kill(place, "buy", asked.pk, now=DUE)
    recover(now=DUE)
    assert_sound(owner_of_a_bucket, stripe)
    following = Bucket.objects.exclude(pk=first.pk).get()
    assert following.starts_at == first.expires_at
    assert bucket_renewal_orders.in_force(first) is None
    assert bucket_renewal_orders.in_force(following) is not None
