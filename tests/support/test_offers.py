"""Bucket offers on the staff desk: entered there, checked, and kept once bought."""

from typing import Any

import pytest

from billing_portal.billing.models import BucketOffer, Purchase
from tests.conftest import NOW

pytestmark = pytest.mark.django_db
ADD = "/staff/billing/bucketoffer/add/"


def terms(**changes: Any) -> dict[str, Any]:
    return {
        "code": "resolutions-1000",
        "currency": "usd",
        "outcomes": ["resolution"],
        "size": "1000",
        "price_micros": "890",
        "term_months": "12",
        "starts_at_0": "2026-10-01",
        "starts_at_1": "00:00:00",
        "ends_at_0": "",
        "ends_at_1": "",
        **changes,
    }


def test_an_offer_is_entered_and_listed(desk: Any) -> None:
    assert desk.post(ADD, terms()).status_code == 302
    offer = BucketOffer.objects.get()
    assert (offer.currency, offer.outcomes, offer.price_micros) == ("USD", ["resolution"], 890_000_000)
    assert "890.00" in desk.get("/staff/billing/bucketoffer/").content.decode()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"price_micros": "0.000001"}, "cannot be charged"),
        ({"price_micros": "0"}, "cannot be charged"),
        ({"price_micros": "-890"}, "greater than or equal to 0"),
        ({"outcomes": []}, "required"),
        ({"outcomes": ["call"]}, "valid choice"),
        ({"size": "0"}, "greater than or equal to 1"),
        ({"term_months": "61"}, "less than or equal to 60"),
        ({"ends_at_0": "2026-09-01", "ends_at_1": "00:00:00"}, "ends after it starts"),
    ],
)
def test_an_offer_without_sense_is_a_form_error(desk: Any, wrong: dict[str, Any], said: str) -> None:
    answer = desk.post(ADD, terms(**wrong))
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not BucketOffer.objects.exists()


def test_of_what_was_bought_only_the_sale_can_end(desk: Any, acme: Any, alice: Any) -> None:
    desk.post(ADD, terms())
    offer = BucketOffer.objects.get()
    Purchase.objects.create(
        organization=acme, origin="person", kind="bucket", offer=offer, way="card", currency="USD", asked_by=alice,
        amount_micros=offer.price_micros, asked_at=NOW,
    )  # fmt: skip
    changed = terms(size="5", ends_at_0="2026-12-01", ends_at_1="00:00:00")
    assert desk.post(f"/staff/billing/bucketoffer/{offer.pk}/change/", changed).status_code == 302
    offer.refresh_from_db()
    assert offer.size == 1000
    assert offer.ends_at is not None
    assert desk.get(f"/staff/billing/bucketoffer/{offer.pk}/delete/").status_code == 403


def test_an_offer_is_withdrawn_only_before_it_is_on_sale(desk: Any) -> None:
    desk.post(ADD, terms())
    desk.post(ADD, terms(starts_at_0="2099-01-01"))
    on_sale, to_come = BucketOffer.objects.order_by("starts_at")
    page = "/staff/billing/bucketoffer/{}/{}/"
    assert "deletelink" not in desk.get(page.format(on_sale.pk, "change")).content.decode()
    assert "deletelink" in desk.get(page.format(to_come.pk, "change")).content.decode()
    assert desk.post(page.format(to_come.pk, "delete"), {"post": "yes"}).status_code == 302
    assert list(BucketOffer.objects.all()) == [on_sale]
