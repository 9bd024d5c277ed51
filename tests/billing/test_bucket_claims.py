"""F37, F38: what becomes of a bucket whose payment is refunded, or disputed at the bank."""

import itertools
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import Letter, User
from billing_portal.billing import (
    bucket_renewals,
    bucket_sales,
    claims,
    credit_note_issuing,
    credit_notes,
    purchase_payment,
    purchases,
    reconciliation,
)
from billing_portal.billing.models import BucketRenewal, Invoice, InvoicePayment, Purchase, Refund
from billing_portal.ledger import settling, verification
from billing_portal.ledger.models import Account, Bucket
from billing_portal.support import actions, kinds
from tests.billing.conftest import MakeBuyer
from tests.billing.test_bucket_renewals import bought, shop, usd
from tests.billing.test_buckets_bought import ask, handle_events, offer_in_usd
from tests.billing.world import MIDMONTH, Buyer, load_prices
from tests.ledger.test_buckets import resolve
from tests.stripe.conftest import RunningSandbox
from tests.usage.outcomes.conftest import DOCUMENT
from usage.outcomes import rules

__all__ = ["shop"]
NOW = MIDMONTH
PRICE, UNIT = 890_000_000, 890_000


def paid(purchase: Purchase) -> Invoice:
    """Return the invoice of a purchase, as Stripe would have it paid: 890 dollars and a tenth of tax."""
    invoice = Invoice.objects.create(
        organization=purchase.organization,
        stripe_invoice_id=f"in_{purchase.pk}",
        state=Invoice.State.PAID,
        currency="USD",
        subtotal_minor=89_000,
        tax_minor=8_900,
        total_minor=97_900,
        drafted_at=NOW,
    )
    purchases.link(purchase, invoice)
    InvoicePayment.objects.create(
        organization=purchase.organization, invoice=invoice, stripe_payment_intent_id=f"pi_{invoice.pk}"
    )
    return invoice


@pytest.fixture
def sold(shop: Buyer) -> Callable[..., Invoice]:
    """Return a maker of the paid invoice of a bucket of 1,000, of which some are used."""

    def make(used: int = 0, **fields: Any) -> Invoice:
        bucket = bought(shop, **fields)
        if used:
            load_prices()
            rules.load(tomllib.loads(DOCUMENT.read_text()), now=NOW)
            Bucket.objects.update(starts_at=NOW.replace(year=2024))
            resolve(shop.organization, *(f"c_{number}" for number in range(used)), now=NOW)
            settling.settle_all(shop.organization.pk, now=NOW)
        return paid(Purchase.objects.get(bucket=bucket))

    return make


def told(invoice: Invoice, **fields: Any) -> dict[str, Any]:
    """Return what Stripe says of a refund or a dispute of the invoice's payment."""
    common = {
        "payment_intent": f"pi_{invoice.pk}",
        "charge": "ch_1",
        "currency": "usd",
        "created": int(NOW.timestamp()),
    }
    return common | fields


def refund(invoice: Invoice, minor: int, key: str = "re_1", status: str = "succeeded") -> None:
    claims.receive_refund(told(invoice, id=key, amount=minor, status=status), now=NOW)


def dispute(invoice: Invoice, status: str, key: str = "du_1", minor: int = 97_900) -> None:
    claims.receive_chargeback(told(invoice, id=key, amount=minor, status=status, reason="fraudulent"), now=NOW)


def stands(invoice: Invoice) -> tuple[int, int, int]:
    """Return units left, units taken out, and micros owed; the books are in order."""
    bucket = Bucket.objects.get(organization=invoice.organization)
    assert list(verification.verify(invoice.organization_id)) == []
    owed = Account.objects.get(organization=invoice.organization).accrued_micros
    return bucket.remaining_units, bucket.claimed_units, owed


def subjects() -> list[str]:
    return list(
        Letter.objects.exclude(reference__startswith="chargeback").order_by("id").values_list("subject", flat=True)
    )


def test_f2_f38_partial_refunds_take_their_share_of_the_units_each_once(sold: Callable[..., Invoice]) -> None:
    invoice = sold(used=3)
    for _ in range(2):
        refund(invoice, 9_790, "re_1")
        refund(invoice, 48_950, "re_2")
    assert stands(invoice) == (397, 600, 0)
    refund(invoice, 39_160, "re_3")
    assert stands(invoice) == (0, 997, 3 * UNIT)
    refund(invoice, 39_160, "re_3", status="failed")
    assert stands(invoice) == (397, 600, 0)
    assert subjects() == [
        "The payment of your bucket went back: Acme Robotics",
        "The payment of your bucket went back: Acme Robotics",
        "The payment of your bucket went back: Acme Robotics",
        "397 resolutions are yours again: Acme Robotics",
    ]
    third = Letter.objects.order_by("id")[2].text
    assert "997 unused resolutions are out of the bucket for good" in third
    assert "3 of those paid back had been used already" in third
    assert "$2.67" in third


def test_f3_f37_any_order_of_what_is_told_of_a_dispute_ends_the_same(sold: Callable[..., Invoice]) -> None:
    invoice = sold(used=2)
    dispute(invoice, "needs_response", "du_a")
    assert stands(invoice) == (0, 998, 0)
    dispute(invoice, "won", "du_a")
    assert stands(invoice) == (998, 0, 0)
    assert [each.split(":")[0] for each in subjects()] == [
        "Your bucket of 1,000 resolutions is held",
        "998 resolutions are yours again",
    ]
    for number, order in enumerate(itertools.permutations(("needs_response", "under_review", "lost"))):
        for status in order:
            dispute(invoice, status, f"du_{number}")
        assert stands(invoice) == (0, 998, 2 * UNIT)


TENTH, TENTHS = 9_790, st.integers(1, 10)
WENT_BACK = st.one_of(
    st.tuples(st.just(refund), TENTHS, st.sampled_from(["succeeded", "pending", "failed"])),
    st.tuples(st.just(dispute), TENTHS, st.sampled_from(["needs_response", "won", "lost", "warning_needs_response"])),
)
GONE, AT_STAKE = {"succeeded", "pending", "lost"}, {"needs_response"}


def test_i15_refunds_and_chargebacks_together_take_back_no_more_of_a_bucket_than_was_paid(
    sold: Callable[..., Invoice],
) -> None:
    """However many there are, and whatever each says: units taken out and units owed are units that were paid back."""
    invoice, unused = sold(used=3), 997

    @settings(max_examples=5, deadline=None)
    @given(told=st.lists(WENT_BACK, min_size=2, max_size=6))
    def follows(told: list[tuple[Callable[..., None], int, str]]) -> None:
        with transaction.atomic():
            for number, (tell, tenths, status) in enumerate(told):
                for _ in range(2):
                    tell(invoice, minor=tenths * TENTH, key=f"{number}", status=status)
            gone = 100 * sum(tenths for _, tenths, status in told if status in GONE)
            at_stake = 100 * sum(tenths for _, tenths, status in told if status in AT_STAKE)
            taken, owed = min(unused, gone + at_stake), max(0, min(1_000, gone) - unused)
            assert stands(invoice) == (unused - taken, taken, owed * UNIT)
            assert (taken + owed) * UNIT <= PRICE
            transaction.set_rollback(True)

    follows()


def test_a_bucket_whose_payment_is_disputed_is_neither_renewed_nor_enlarged(
    shop: Buyer, sold: Callable[..., Invoice]
) -> None:
    invoice = sold(renews=True)
    bucket = Bucket.objects.get()
    assert bucket_sales.upgrades_of(bucket, now=NOW)
    dispute(invoice, "needs_response")
    bucket.refresh_from_db()
    assert bucket_sales.upgrades_of(bucket, now=NOW) == []
    assert BucketRenewal.objects.get().ended_reason == "The payment is disputed at the card's bank"
    with pytest.raises(bucket_renewals.RenewalRefused):
        bucket_renewals.switch_on(bucket, user=shop.owner, now=NOW)
    dispute(invoice, "won")
    assert bucket_sales.upgrades_of(bucket, now=NOW)
    assert usd("resolutions-1000").renewals.count() == 1


def test_f38_i13_staff_refund_half_a_bucket_after_a_preview_and_half_of_it_goes(
    stripe: RunningSandbox, buyer: MakeBuyer, make_user: Callable[..., User]
) -> None:
    acme, offer = buyer("acme"), offer_in_usd()
    purchase = ask(acme, offer)
    purchase_payment.advance(purchase, now=NOW)
    sam, invoice = make_user("sam@desk.example", is_staff=True), Invoice.objects.get()
    params = {"invoice": invoice.pk, "micros": PRICE // 2, "to": "card"}
    asked = {"kind": kinds.named("credit_note"), "organization": acme.organization, "params": params, "by": sam}
    notes = [change.note for change in actions.preview(**asked, now=NOW).changes]
    assert {"500 of 1,000", "0.00 USD"} <= set(notes)
    note = credit_notes.ask(
        invoice=invoice, micros=PRICE // 2, reason="Too large", reference="n", cause="staff", now=NOW
    )
    assert credit_note_issuing.issue(note, now=NOW)
    for _ in range(2):
        handle_events()
        assert stands(invoice) == (500, 500, 0)
    assert Refund.objects.get().amount_minor == 44_500
    invoice.refresh_from_db()
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    letter = Letter.objects.get(subject__startswith="The payment of your bucket")
    assert "500 unused resolutions are out of the bucket for good" in letter.text
