"""Buying buckets: the bucket is there exactly when Stripe has the money, once, whatever comes in which order."""

import itertools
import tomllib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, ProgrammingError, transaction

from accounts.models import Organization
from billing_portal.billing import (
    bucket_offers,
    bucket_sales,
    gateway,
    inbox,
    purchase_payment,
    purchases,
    reconciliation,
)
from billing_portal.billing.models import BucketOffer, InboxEvent, Invoice, InvoiceLine, Purchase
from billing_portal.ledger import verification
from billing_portal.ledger.models import Bucket, Grant
from tests.billing.world import MIDMONTH, Buyer
from tests.stripe.conftest import RunningSandbox
from usage.price_documents import PriceDocumentInvalid

MakeBuyer = Callable[..., Buyer]
SAMPLE = Path(bucket_offers.__file__).parent / "price_lists" / "parley_buckets.toml"
DOCUMENT = tomllib.loads(SAMPLE.read_text())


@pytest.fixture
def offers(db: None) -> dict[str, BucketOffer]:
    """Load the sample's offers; return those in dollars by code."""
    bucket_offers.load(DOCUMENT, now=MIDMONTH)
    return {offer.code: offer for offer in BucketOffer.objects.filter(currency="USD")}


def ask(acme: Buyer, offer: BucketOffer, **changes: Any) -> Purchase:
    arguments: dict[str, Any] = {
        "organization": acme.organization,
        "user": acme.owner,
        "offer": offer,
        "way": Purchase.Way.CARD,
        "key": purchases.next_key(acme.organization),
        "payment_method": acme.card,
        "now": MIDMONTH,
    }
    return bucket_sales.ask(**arguments | changes)


def offer_in_usd(code: str = "resolutions-1000") -> BucketOffer:
    bucket_offers.load(DOCUMENT, now=MIDMONTH)
    return BucketOffer.objects.get(code=code, currency="USD")


def handle_events() -> None:
    inbox.catch_up(MIDMONTH + timedelta(hours=1))
    inbox.handle_waiting(now=MIDMONTH + timedelta(hours=1))
    failed = InboxEvent.objects.exclude(reason="").values_list("type", "reason")
    assert not failed, list(failed)


def assert_sound(acme: Buyer, stripe: RunningSandbox) -> None:
    """I13: each succeeded charge is one bucket, and the books are in order."""
    charges = [each for each in stripe.dump()["objects"].get("charge", []) if each["paid"]]
    assert Bucket.objects.count() == Purchase.objects.filter(state="credited").count() == len(charges)
    assert not Grant.objects.exists()
    assert list(verification.verify(acme.organization.pk)) == []
    for invoice in Invoice.objects.exclude(state="void"):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


# ── Offers ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_loads_once(offers: dict[str, BucketOffer]) -> None:
    assert bucket_offers.load(DOCUMENT, now=MIDMONTH) == []
    assert len(bucket_offers.on_sale("EUR", now=MIDMONTH)) == len(offers) == 6
    sizes = [offer.size for offer in bucket_offers.on_sale("USD", now=MIDMONTH) if offer.outcomes == ["resolution"]]
    assert sizes == sorted(sizes)
    assert bucket_offers.on_sale("JPY", now=MIDMONTH) == []


def test_a_new_price_takes_the_place_of_the_old_at_its_instant(offers: dict[str, BucketOffer]) -> None:
    old = offers["resolutions-1000"]
    starts_at = MIDMONTH + timedelta(days=7)
    entry = {"code": old.code, "outcomes": ["resolution"], "size": 1000, "starts_at": starts_at}
    bucket_offers.load({"offers": [entry | {"prices": {"USD": "950.00"}}]}, now=MIDMONTH)
    before, after = (
        bucket_offers.in_force(old.code, "USD", at=starts_at + each) for each in (-timedelta(1), timedelta())
    )
    assert before == old
    assert after is not None
    assert after.price_micros == 950_000_000


def test_an_offer_that_ended_is_not_sold_and_none_takes_its_place(offers: dict[str, BucketOffer]) -> None:
    ending = DOCUMENT | {"offers": [each | {"ends_at": MIDMONTH} for each in DOCUMENT["offers"]]}
    assert len(bucket_offers.load(ending, now=MIDMONTH)) == 12
    assert bucket_offers.on_sale("USD", now=MIDMONTH) == []
    assert len(bucket_offers.on_sale("USD", now=MIDMONTH - timedelta(seconds=1))) == 6


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"size": 0}, "offers[0].size"),
        ({"outcomes": []}, "offers[0].outcomes"),
        ({"outcomes": ["resolution", "resolution"]}, "offers[0].outcomes"),
        ({"outcomes": ["call"]}, "offers[0].outcomes"),
        ({"term_months": 0}, "offers[0].term_months"),
        ({"starts_at": datetime(2025, 1, 1)}, "offers[0].starts_at"),  # noqa: DTZ001 - that is the fault
        ({"ends_at": datetime(2024, 1, 1, tzinfo=UTC)}, "offers[0].ends_at"),
        ({"prices": {}}, "offers[0].prices"),
        ({"prices": {"usd": "1.00"}}, "offers[0].prices"),
        *(({"prices": {"USD": price}}, "offers[0].prices.USD") for price in ("0", "-1", "1.005", "NaN", "x", "1e30")),
        ({"prices": {"JPY": "0.5"}}, "offers[0].prices.JPY"),
        ({"colour": "red"}, ""),
    ],
)
def test_an_offer_without_sense_is_refused_by_its_place(db: None, wrong: dict[str, Any], where: str) -> None:
    with pytest.raises(PriceDocumentInvalid) as refused:
        bucket_offers.load({"offers": [DOCUMENT["offers"][0] | wrong]}, now=MIDMONTH)
    assert where in str(refused.value)
    assert not BucketOffer.objects.exists()


def test_the_command_loads_a_file_and_names_what_is_wrong(db: None, tmp_path: Path, capsys: Any) -> None:
    call_command("load_bucket_offers", SAMPLE)
    call_command("load_bucket_offers", SAMPLE)
    said = capsys.readouterr().out
    assert said.count("Loaded ") == 12
    assert "Nothing changed." in said
    (broken := tmp_path / "broken.toml").write_text("offers = 3")
    with pytest.raises(CommandError, match="offers"):
        call_command("load_bucket_offers", broken)


# ── Asking ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f41_an_offer_of_another_currency_or_one_that_ended_is_not_sold(
    offers: dict[str, BucketOffer], acme: Organization, alice: Any
) -> None:
    euro = BucketOffer.objects.get(code="resolutions-1000", currency="EUR")
    ended = offers["resolutions-1000"]
    BucketOffer.objects.filter(pk=ended.pk).update(ends_at=MIDMONTH)
    for offer in (euro, ended):
        with pytest.raises(bucket_sales.OfferNotOnSale):
            ask(Buyer(acme, alice, None), offer)
    assert not Purchase.objects.exists()


def test_f27_f29_a_form_sent_again_buys_once_and_what_was_bought_is_kept(buyer: MakeBuyer) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    key = purchases.next_key(acme.organization)
    first = ask(acme, offer, key=key)
    BucketOffer.objects.filter(pk=offer.pk).update(ends_at=MIDMONTH)
    assert ask(acme, offer, key=key) == first
    with pytest.raises(purchases.KeyReused):
        ask(acme, BucketOffer.objects.get(code="resolutions-5000", currency="USD"), key=key)
    with pytest.raises(purchases.KeyReused):
        purchases.ask(
            organization=acme.organization, user=acme.owner, micros=offer.price_micros, currency="USD",
            way=Purchase.Way.CARD, key=key, now=MIDMONTH, payment_method=acme.card,
        )  # fmt: skip
    with pytest.raises(purchases.PurchaseOpen):
        ask(acme, BucketOffer.objects.get(code="resolutions-5000", currency="USD"))
    for change in ({"price_micros": 1}, {"size": 1}):
        with pytest.raises(ProgrammingError, match="only its sale can end"), transaction.atomic():
            BucketOffer.objects.filter(pk=offer.pk).update(**change)
    with pytest.raises(Exception, match="protected"), transaction.atomic():
        offer.delete()
    with pytest.raises(bucket_offers.OfferWasBought):
        changed = DOCUMENT["offers"][0] | {"prices": {"USD": "1.00"}}
        bucket_offers.load({"offers": [changed]}, now=MIDMONTH)


# ── Paying ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_i13_a_bucket_bought_by_card_is_invoiced_charged_and_given_once(
    stripe: RunningSandbox, buyer: MakeBuyer
) -> None:
    acme, offer = buyer("acme", time_zone="America/New_York"), offer_in_usd()
    purchase = ask(acme, offer)
    for hour in range(3):
        purchase_payment.advance(purchase, now=MIDMONTH + timedelta(hours=hour))
    handle_events()
    bucket = Bucket.objects.get()
    assert (purchase.state, purchase.bucket, purchase.grant, purchase.due_at) == ("credited", bucket, None, None)
    assert (bucket.size, bucket.remaining_units, bucket.price_micros) == (1000, 1000, 890_000_000)
    assert (bucket.starts_at, bucket.expires_at) == (MIDMONTH, MIDMONTH.replace(year=2028))
    assert (bucket.outcomes, bucket.reference) == (["resolution"], f"purchase:{purchase.public_id}")
    assert InvoiceLine.objects.get().description == "Bucket of 1,000 resolutions, 12 months"
    assert acme.credit_micros == 0
    assert_sound(acme, stripe)


@pytest.mark.parametrize("order", list(itertools.permutations(["webhook", "page"])))
def test_f30_f31_through_checkout_whoever_hears_first_the_bucket_is_given_once(
    stripe: RunningSandbox, buyer: MakeBuyer, order: tuple[str, ...]
) -> None:
    acme, offer = buyer("acme", card=None), offer_in_usd("qualifications-100")
    back = "https://portal.example/"
    purchase = ask(acme, offer, way=Purchase.Way.CHECKOUT, payment_method=None, return_url=back)
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert not Bucket.objects.exists()
    session = gateway.retrieve("checkout.sessions", purchase.stripe_session_id or "")
    assert (session["amount_subtotal"], session["adaptive_pricing"]) == (89_900, {"enabled": True})
    confirm: Any = {"payment_method": "pm_card_visa", "return_url": back}
    stripe.client.v1.payment_intents.confirm(session["payment_intent"], confirm)
    for teller in order:
        if teller == "webhook":
            handle_events()
        else:
            purchase_payment.advance(purchase, now=MIDMONTH)
        assert Bucket.objects.count() == 1
    purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=2))
    purchase.refresh_from_db()
    assert (purchase.state, purchase.due_at) == ("credited", None)
    assert purchase.bucket is not None
    assert purchase.bucket.outcomes == ["qualification"]
    assert_sound(acme, stripe)


def test_a_declined_card_gives_no_bucket(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme, offer = buyer("acme", card="pm_card_chargeCustomerFail"), offer_in_usd()
    purchase = ask(acme, offer)
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert purchase.state == "failed"
    assert_sound(acme, stripe)


def test_i13_the_database_holds_a_purchase_to_what_it_gave(buyer: MakeBuyer) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    purchase = ask(acme, offer)
    for change in ({"state": "credited"}, {"offer": None}, {"kind": "credit"}):
        with pytest.raises(IntegrityError, match="purchase_"), transaction.atomic():
            Purchase.objects.filter(pk=purchase.pk).update(**change)


def test_i16_the_invoice_names_its_own_organizations_purchase(buyer: MakeBuyer) -> None:
    acme, other, offer = buyer("acme"), buyer("other"), offer_in_usd()
    purchase = ask(acme, offer)
    stripe_invoice = {"metadata": {"purchase": str(purchase.public_id)}}
    foreign = Invoice.objects.create(
        organization=other.organization, stripe_invoice_id=f"in_{uuid.uuid4()}", currency="USD", drafted_at=MIDMONTH
    )
    assert purchases.receive(foreign, stripe_invoice, now=MIDMONTH) is None
