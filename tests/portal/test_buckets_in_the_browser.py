"""Buckets in Chromium: bought with the saved card, without scripts too, and pages that are sound."""

import os
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from billing_portal.billing import bucket_offers, bucket_sales, purchase_payment, purchases
from billing_portal.billing.models import BucketOffer, Purchase
from billing_portal.ledger.models import Bucket, BucketEntry
from tests import looks
from tests.billing import world
from tests.billing.test_buckets_bought import DOCUMENT, ask
from tests.billing.world import MIDMONTH, Buyer
from tests.portal.test_bucket_pages import resolve
from tests.portal.test_purchases_in_the_browser import _february, open_page, url
from tests.usage.outcomes.conftest import DOCUMENT as RULES
from usage.outcomes import rules

__all__ = ["_february", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def on_sale(code: str = "resolutions-1000") -> BucketOffer:
    world.load_prices()
    rules.load(tomllib.loads(RULES.read_text()), now=MIDMONTH - timedelta(days=400))
    bucket_offers.load(DOCUMENT, now=MIDMONTH)
    return BucketOffer.objects.get(code=code, currency="USD")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_bucket_is_bought_with_the_saved_card_and_its_renewal_ended(
    open_page: Callable[..., Page], buyer: Callable[..., Buyer], scripts: bool
) -> None:
    acme = buyer("acme")
    on_sale()
    page = open_page(acme, scripts=scripts)
    page.goto(url("buckets", acme))
    page.get_by_role("link", name="Buy a bucket").click()
    page.get_by_role("link", name="1,000 resolutions", exact=True).click()
    page.get_by_label("Buy it again when its term ends").check()
    page.get_by_role("button", name="Pay $890.00 with Visa 4242").click()
    expect(page.get_by_text("1,000 resolutions are ready to use")).to_be_visible()
    page.get_by_role("link", name="To the bucket").click()
    expect(page.get_by_text("Renewed", exact=True)).to_be_visible()
    page.get_by_role("button", name="Do not renew").click()
    expect(page.get_by_text("It is not renewed")).to_be_visible()
    assert Bucket.objects.get().remaining_units == 1_000


@looks.of_page
def test_the_pages_are_sound(
    open_page: Callable[..., Page], buyer: Callable[..., Buyer], width: int, theme: str
) -> None:
    acme = buyer("acme")
    offer = on_sale()
    began = MIDMONTH - timedelta(days=120)
    first = ask(acme, offer, now=began)
    purchases.move(first, Purchase.State.PAID, now=began)
    purchases.credit(first, now=began)
    for days_ago in range(110, 0, -5):
        resolve(acme, 1, days_ago=days_ago)
    bucket = Bucket.objects.get()
    _use(bucket)
    later = ask(acme, BucketOffer.objects.get(code="qualifications-100", currency="USD"), renews=True)
    purchase_payment.advance(later, now=MIDMONTH)
    larger = bucket_sales.upgrades_of(bucket, now=MIDMONTH)[0].offer
    page = open_page(acme, width=width, theme=theme)
    addresses = {
        "buckets": url("buckets", acme),
        "bucket": url("bucket", acme, bucket.public_id),
        "bucket-offers": url("bucket_offers", acme),
        "bucket-offer": url("bucket_offer", acme, larger.public_id),
        "bucket-upgrade": url("bucket_offer", acme, larger.public_id) + f"?upgrade={bucket.public_id}",
        "bucket-planner": url("bucket_planner", acme),
        "bucket-purchase": url("purchase", acme, later.public_id),
    }
    for name, address in addresses.items():
        page.goto(address)
        page.wait_for_timeout(200)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name


def _use(bucket: Bucket) -> None:
    """Let the bucket have been used at a changing pace, as entries alone."""
    for number in range(110, 0, -1):
        BucketEntry.objects.create(
            organization_id=bucket.organization_id,
            bucket=bucket,
            kind=BucketEntry.Kind.USED,
            units=-(2 + number % 5),
            reference=f"test:{number}",
            occurred_at=MIDMONTH - timedelta(days=number),
        )
    Bucket.objects.filter(pk=bucket.pk).update(remaining_units=bucket.size - 22 - sum(2 + n % 5 for n in range(1, 111)))
