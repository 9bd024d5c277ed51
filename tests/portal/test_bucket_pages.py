"""Buckets on the pages: what is on offer, a preview, one charge a form, and errors that change nothing."""

import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing_portal.billing import bucket_offers, purchase_tasks, purchases
from billing_portal.billing.models import BucketOffer, Invoice, PaymentMethod, Purchase
from billing_portal.ledger import accounts, buckets, settling
from billing_portal.ledger.models import Bucket
from tests.billing import world
from tests.billing.test_buckets_bought import DOCUMENT, ask
from tests.billing.world import MIDMONTH, Buyer
from tests.conftest import NOW, join
from tests.stripe.conftest import RunningSandbox
from tests.usage.outcomes.conftest import DOCUMENT as RULES
from tests.usage.outcomes.conftest import event, raw
from usage.outcomes import recording, rules


@pytest.fixture(autouse=True)
def _february(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH)
    # The worker: what is queued is not done until the test says so.
    monkeypatch.setattr("accounts.queueing.send", lambda task, *args, **_: True)


@pytest.fixture
def offer(db: None) -> BucketOffer:
    """The sample's offers are on sale, beside its list prices; return that of 1,000 resolutions."""
    world.load_prices()
    rules.load(tomllib.loads(RULES.read_text()), now=NOW)
    bucket_offers.load(DOCUMENT, now=NOW)
    return BucketOffer.objects.get(code="resolutions-1000", currency="USD")


@pytest.fixture
def shop(db: None, acme: Organization, alice: Any) -> Buyer:
    """Acme with books and a card that is only here."""
    accounts.open(organization=acme, now=NOW)
    card = PaymentMethod.objects.create(
        organization=acme, stripe_payment_method_id="pm_1", kind="card", brand="visa", last4="4242", is_default=True,
        created_at=NOW,
    )  # fmt: skip
    return Buyer(acme, alice, card)


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def url(name: str, acme: Buyer, *more: Any) -> str:
    return reverse(name, args=[acme.organization.public_id, *more])


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def hidden(response: Any) -> dict[str, str]:
    """Return the fields of the form that pays, as the page shows them."""
    page = response.content.decode().partition("/buy/")[2]
    return dict(re.findall(r'type="hidden" name="(key|card)" value="([^"]*)"', page))


def bucket_of(shop: Buyer, size: int = 1_000, **fields: Any) -> Bucket:
    terms = {
        "outcomes": ("resolution",),
        "price_micros": size * 890_000,
        "starts_at": MIDMONTH - timedelta(days=40),
        "expires_at": MIDMONTH + timedelta(days=325),
    }
    reference = fields.pop("reference", "b")
    return buckets.add(
        shop.organization.pk, buckets.Terms(size=size, **terms | fields), reference=reference, now=MIDMONTH
    )


def test_the_offers_stand_beside_the_list_price(shop: Buyer, offer: BucketOffer) -> None:
    text = text_of(client_of(shop.owner).get(url("bucket_offers", shop)))
    assert "1,000 resolutions 12 months $0.89 10.1% $890.00" in text
    assert text.index("5,000 resolutions") < text.index("25,000 resolutions") < text.index("100,000 resolutions")


def test_without_a_list_price_nothing_is_compared(shop: Buyer) -> None:
    bucket_offers.load(DOCUMENT, now=NOW)
    assert "1,000 resolutions 12 months $0.89 – $890.00" in text_of(
        client_of(shop.owner).get(url("bucket_offers", shop))
    )


def test_the_preview_says_what_it_costs_covers_and_until_when(shop: Buyer, offer: BucketOffer) -> None:
    page = client_of(shop.owner).get(url("bucket_offer", shop, offer.public_id))
    text = text_of(page)
    assert "You pay $890.00 plus tax, where it applies For each $0.89, before tax" in text
    assert "$990.00 at $0.99 each: you save $100.00" in text
    assert "Feb 10, 2028" in text
    assert "Visa 4242" in text
    assert hidden(page) == {
        "key": str(purchases.next_key(shop.organization)),
        "card": str(shop.card.pk if shop.card else 0),
    }


def test_f27_f29_a_form_sent_twice_leads_to_one_purchase_and_a_second_form_waits(
    shop: Buyer, offer: BucketOffer
) -> None:
    client = client_of(shop.owner)
    page = client.get(url("bucket_offer", shop, offer.public_id))
    form = hidden(page) | {"way": "card"}
    first, second = (client.post(url("bucket_buy", shop, offer.public_id), form) for _ in range(2))
    purchase = Purchase.objects.get()
    assert first.url == second.url == url("purchase", shop, purchase.public_id)
    page = client.get(first.url)
    assert "Bucket of 1,000 resolutions, 12 months" in text_of(page)
    assert [each["name"] for each in page.context["nav"] if each["current"]] == ["buckets"]
    page = client.get(url("bucket_offer", shop, offer.public_id))
    assert "A purchase is under way" in text_of(page)
    answer = client.post(url("bucket_buy", shop, offer.public_id), hidden(page) | {"way": "card"}, follow=True)
    assert "still under way" in text_of(answer)
    assert "Bucket of 1,000 resolutions" in text_of(client.get(url("purchases", shop)))
    assert "Bucket of 1,000" not in text_of(client.get(url("credits", shop)))
    assert Purchase.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "00000000-0000-0000-0000-000000000001"}, "out of date"),
        ({"key": "nonsense"}, "Enter a valid UUID"),
        ({"card": ""}, "default card has changed"),
        ({"way": "cash"}, "Select a valid choice"),
    ],
)
def test_a_form_that_was_tampered_with_buys_nothing(
    shop: Buyer, offer: BucketOffer, changes: dict[str, str], said: str
) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("bucket_offer", shop, offer.public_id))) | {"way": "card"} | changes
    assert said in text_of(client.post(url("bucket_buy", shop, offer.public_id), form))
    assert not Purchase.objects.exists()


def test_what_is_no_more_on_sale_cannot_be_bought(shop: Buyer, offer: BucketOffer) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("bucket_offer", shop, offer.public_id))) | {"way": "card"}
    BucketOffer.objects.filter(pk=offer.pk).update(ends_at=MIDMONTH)
    answer = client.post(url("bucket_buy", shop, offer.public_id), form, follow=True)
    assert "no more on sale" in text_of(answer)
    assert "no more on sale" in text_of(client.get(url("bucket_offer", shop, offer.public_id), follow=True))
    assert not Purchase.objects.exists()


def test_f41_an_offer_of_another_currency_is_missing(shop: Buyer, offer: BucketOffer) -> None:
    euro = BucketOffer.objects.get(code=offer.code, currency="EUR")
    assert client_of(shop.owner).get(url("bucket_offer", shop, euro.public_id)).status_code == 404


def test_a_frozen_account_buys_nothing(shop: Buyer, offer: BucketOffer) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("bucket_offer", shop, offer.public_id))) | {"way": "card"}
    accounts.freeze(shop.organization.pk, reason="a test", now=NOW)
    assert "nothing can be bought now" in text_of(client.post(url("bucket_buy", shop, offer.public_id), form))
    assert not Purchase.objects.exists()


def test_who_may_not_buy_may_look(shop: Buyer, offer: BucketOffer, make_user: Callable[..., Any]) -> None:
    bob = make_user("bob@acme.example")
    join(shop.organization, bob, Membership.Role.VIEWER)
    client = client_of(bob)
    page = client.get(url("bucket_offers", shop))
    assert "may buy" in text_of(page)
    assert url("bucket_offer", shop, offer.public_id) not in page.content.decode()
    assert client.get(url("bucket_offer", shop, offer.public_id)).status_code == 403


def test_an_empty_page_says_what_to_do(shop: Buyer) -> None:
    client = client_of(shop.owner)
    for name in ("buckets", "bucket_offers"):
        assert "No bucket is on sale" in text_of(client.get(url(name, shop)))
    bucket_offers.load(DOCUMENT, now=NOW)
    assert "You have no bucket yet" in text_of(client.get(url("buckets", shop)))


def test_the_buckets_stand_in_the_order_they_are_used(shop: Buyer, offer: BucketOffer) -> None:
    late = bucket_of(shop, 500, reference="late", expires_at=MIDMONTH + timedelta(days=400))
    soon = bucket_of(shop, 200, reference="soon", expires_at=MIDMONTH + timedelta(days=12))
    over = bucket_of(shop, 300, reference="over", expires_at=MIDMONTH - timedelta(days=1))
    page = client_of(shop.owner).get(url("buckets", shop))
    addresses = [url("bucket", shop, each.public_id) for each in (soon, late, over)]
    places = [page.content.decode().index(address) for address in addresses]
    assert places == sorted(places)
    assert "Expires in 12 days" in text_of(page)
    assert "Empty or over" in text_of(page)


def test_from_the_form_to_the_bucket_by_card_and_on_the_invoices_page(
    stripe: RunningSandbox, buyer: Callable[..., Buyer]
) -> None:
    acme = buyer("acme")
    bucket_offers.load(DOCUMENT, now=NOW)
    offer = BucketOffer.objects.get(code="resolutions-1000", currency="USD")
    client = client_of(acme.owner)
    form = hidden(client.get(url("bucket_offer", acme, offer.public_id))) | {"way": "card"}
    page = client.post(url("bucket_buy", acme, offer.public_id), form).url
    purchase_tasks.advance_purchase(Purchase.objects.get().pk)
    text = text_of(client.get(page))
    assert "1,000 resolutions are ready to use" in text
    assert "Bucket opened" in text
    invoice = Invoice.objects.get()
    assert "Bucket of 1,000 resolutions, 12 months" in text_of(client.get(url("invoices", acme)))
    assert "agrees with your purchase" in text_of(client.get(url("invoice", acme, invoice.public_id)))
    assert "1,000 left" in text_of(client.get(url("buckets", acme)))
    assert "Bought" in text_of(client.get(url("bucket", acme, Bucket.objects.get().public_id)))


# ── A bucket's page, and the planner ──────────────────────────────────────────────────────────────────────────────────


def resolve(shop: Buyer, count: int, *, days_ago: int) -> None:
    """Let conversations be resolved so many days ago, and settle them as of then."""
    at = MIDMONTH - timedelta(days=days_ago)
    told = [
        event("ai_answered", conversation=f"c_{days_ago}_{number}", occurred_at=at.isoformat())
        | {"organization": shop.organization.reference}
        for number in range(count)
    ] + [
        event("customer_replied", conversation=f"c_{days_ago}_{number}", reply_kind="affirmative",
              occurred_at=(at + timedelta(minutes=5)).isoformat())
        | {"organization": shop.organization.reference}
        for number in range(count)
    ]  # fmt: skip
    recording.record([raw(each) for each in told], now=at + timedelta(hours=1))
    settling.settle_all(shop.organization.pk, now=at + timedelta(hours=1))


def test_a_buckets_page_tells_its_use_its_runway_and_every_movement(shop: Buyer, offer: BucketOffer) -> None:
    held = bucket_of(shop, 100)
    for day in range(20, 0, -1):
        resolve(shop, 2, days_ago=day)
    page = client_of(shop.owner).get(url("bucket", shop, held.public_id))
    text = text_of(page)
    assert "Left 60 of 100 resolutions" in text
    assert "Used 40" in text
    assert "Most likely empty Mar 12, 2027" in text
    assert text.count("Used for outcomes") == 20
    assert "1–20 of 21" in text
    assert "Bought" in text_of(client_of(shop.owner).get(url("bucket", shop, held.public_id), {"page": "2"}))


def test_what_expired_unused_is_shown_with_what_it_had_cost(shop: Buyer, offer: BucketOffer) -> None:
    held = bucket_of(shop, 100, expires_at=MIDMONTH)
    text = text_of(client_of(shop.owner).get(url("bucket", shop, held.public_id)))
    assert "100 expired unused, which is $89.00" in text
    buckets.expire(shop.organization.pk, now=MIDMONTH)
    after = text_of(client_of(shop.owner).get(url("bucket", shop, held.public_id)))
    assert "100 expired unused, which is $89.00" in after


def test_a_bucket_whose_turn_has_not_come_says_which_is_first(shop: Buyer) -> None:
    soon = bucket_of(shop, 10, reference="soon", expires_at=MIDMONTH + timedelta(days=9))
    late = bucket_of(shop, 10, reference="late")
    page = client_of(shop.owner).get(url("bucket", shop, late.public_id))
    assert "Its turn has not come" in text_of(page)
    assert url("bucket", shop, soon.public_id) in page.content.decode()


def test_an_upgraded_bucket_leads_to_the_larger_one(shop: Buyer) -> None:
    small = bucket_of(shop, 10)
    large = buckets.upgrade(shop.organization.pk, small.pk, units=5, price_micros=1, reference="u", now=MIDMONTH)
    client = client_of(shop.owner)
    assert "A larger bucket stands in its place" in text_of(client.get(url("bucket", shop, small.public_id)))
    assert "Carried over from the smaller bucket" in text_of(client.get(url("bucket", shop, large.public_id)))


def test_i16_a_foreign_bucket_is_missing(shop: Buyer, other: Organization) -> None:
    accounts.open(organization=other, now=NOW)
    foreign = bucket_of(Buyer(other, shop.owner, None), 10)
    assert client_of(shop.owner).get(url("bucket", shop, foreign.public_id)).status_code == 404


def test_the_planner_names_the_cheapest_and_says_what_it_rests_on(shop: Buyer, offer: BucketOffer) -> None:
    client = client_of(shop.owner)
    assert "too few days" in text_of(client.get(url("bucket_planner", shop)))
    for day in range(20, 0, -1):
        resolve(shop, 3, days_ago=day)
    text = text_of(client.get(url("bucket_planner", shop)))
    # 3 a day, 1,095 in a year: 890 dollars and 95 at list price, or 1,095 × 0.99.
    assert "A bucket of 1,000 resolutions would have saved $100.00" in text
    assert "1,095 outcomes in a year" in text
    assert "By the 20 days there are" in text
    assert "1,000 resolutions Cheapest $890.00 $94.05 – $984.05 $100.00" in text
    assert "No bucket – $1,084.05 – $1,084.05" in text


def test_the_pages_ask_the_database_a_fixed_number_of_times(
    shop: Buyer, offer: BucketOffer, django_assert_max_num_queries: Any
) -> None:
    client = client_of(shop.owner)
    held = [bucket_of(shop, 10, reference=f"b_{number}") for number in range(5)]
    for name, arguments, most in (
        ("buckets", [], 16),
        ("bucket", [held[0].public_id], 20),
        ("bucket_offers", [], 14),
        ("bucket_offer", [offer.public_id], 17),
        ("bucket_planner", [], 14),
    ):
        client.get(url(name, shop, *arguments))
        with django_assert_max_num_queries(most):
            client.get(url(name, shop, *arguments))


# ── Upgrade and renewal ───────────────────────────────────────────────────────────────────────────────────────────────


def bought(shop: Buyer, offer: BucketOffer, **fields: Any) -> Bucket:
    purchase = ask(shop, offer, **fields)
    purchases.move(purchase, Purchase.State.PAID, now=MIDMONTH)
    purchases.credit(purchase, now=MIDMONTH)
    return Bucket.objects.get(purchase=purchase)


def test_f50_an_upgrade_is_previewed_and_bought_for_the_difference(shop: Buyer, offer: BucketOffer) -> None:
    small = bought(shop, offer)
    larger = BucketOffer.objects.get(code="resolutions-5000", currency="USD")
    client = client_of(shop.owner)
    address = url("bucket_offer", shop, larger.public_id)
    assert f"{address}?upgrade={small.public_id}" in client.get(url("bucket", shop, small.public_id)).content.decode()
    page = client.get(address, {"upgrade": small.public_id})
    assert "You pay $3,260.00 plus tax" in text_of(page)
    assert "4,000 resolutions more, and what is left of your bucket, now 1,000: together 5,000" in text_of(page)
    form = hidden(page) | {"way": "card", "upgrade": str(small.public_id)}
    client.post(url("bucket_buy", shop, larger.public_id), form)
    asked = Purchase.objects.exclude(bucket=small).get()
    assert (asked.amount_micros, asked.upgrades) == (3_260_000_000, small)


@pytest.mark.parametrize("upgrade", ["nonsense", "00000000-0000-0000-0000-000000000001"])
def test_an_upgrade_of_no_bucket_is_missing(shop: Buyer, offer: BucketOffer, upgrade: str) -> None:
    client = client_of(shop.owner)
    assert client.get(url("bucket_offer", shop, offer.public_id), {"upgrade": upgrade}).status_code == 404


def test_an_upgrade_that_is_none_leads_back(shop: Buyer, offer: BucketOffer) -> None:
    small = bought(shop, offer)
    page = client_of(shop.owner).get(
        url("bucket_offer", shop, offer.public_id), {"upgrade": small.public_id}, follow=True
    )
    assert "cannot be upgraded to this one" in text_of(page)


def test_a_renewal_is_chosen_shown_ended_and_begun(
    shop: Buyer, offer: BucketOffer, make_user: Callable[..., Any]
) -> None:
    client = client_of(shop.owner)
    page = client.get(url("bucket_offer", shop, offer.public_id))
    assert "I authorize" in text_of(page)
    held = bought(shop, offer, renews=True)
    text = text_of(client.get(url("bucket", shop, held.public_id)))
    assert "Renewed 1,000 resolutions for $890.00 are bought Feb 8, 2028" in text
    client.post(url("bucket_renewal_off", shop, held.public_id))
    assert "It is not renewed" in text_of(client.get(url("bucket", shop, held.public_id)))
    answer = client.post(url("bucket_renewal_on", shop, held.public_id), follow=True)
    assert "The bucket will be renewed" in text_of(answer)
    PaymentMethod.objects.update(removed_at=MIDMONTH)
    client.post(url("bucket_renewal_off", shop, held.public_id))
    assert "Save a card first" in text_of(client.post(url("bucket_renewal_on", shop, held.public_id), follow=True))
    bob = make_user("bob@acme.example")
    join(shop.organization, bob, Membership.Role.VIEWER)
    assert client_of(bob).post(url("bucket_renewal_on", shop, held.public_id)).status_code == 403
