"""Purchases and top-ups killed with SIGKILL at named places: afterwards all is as if nothing had happened."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from billing_portal.billing import gateway, purchase_payment, top_ups
from billing_portal.billing.models import Purchase
from billing_portal.ledger import verification
from billing_portal.ledger.models import Grant
from tests.billing import killing
from tests.billing.killing import of_write
from tests.billing.test_purchase_checkout import CHECKOUT, pay
from tests.billing.test_purchases import FIFTY, MakeBuyer, ask
from tests.billing.test_top_ups import switch_on
from tests.billing.world import MIDMONTH, Buyer
from tests.stripe.conftest import RunningSandbox

Kill = Callable[..., None]


GIVING = ["before credit", "after grant", "after credit"]
CARD = [place for step in ("invoice", "line", "finalize", "pay:1") for place in of_write(step)]


@pytest.fixture
def kill(stripe: RunningSandbox) -> Iterator[Kill]:
    with killing.victim(STRIPE_API_BASE=stripe.url) as victim:
        yield partial(victim.kill, now=MIDMONTH)


def recover() -> None:
    """Let the sweep go on where the dead left off."""
    deadline = time.monotonic() + 20
    now = MIDMONTH
    while Purchase.objects.filter(state__in=[*Purchase.OPEN, "paid"]).exists() and time.monotonic() < deadline:
        now += timedelta(minutes=1)
        purchase_payment.advance_waiting(now=now)


def assert_whole(acme: Buyer, *, place: str, credited: int = 1) -> None:
    stripe_id = acme.organization.customer.stripe_customer_id
    paid = [each for each in gateway.list_all("charges", {"customer": stripe_id}) if each["paid"]]
    grants = list(Grant.objects.filter(organization=acme.organization))
    states = list(Purchase.objects.filter(organization=acme.organization).values_list("state", flat=True))
    assert [each["amount"] for each in paid] == [5000] * credited, place
    assert [grant.amount_micros for grant in grants] == [FIFTY] * credited, place
    assert states == (["credited"] if credited else ["failed"]), place
    assert list(verification.verify(acme.organization.pk)) == [], place
    open_at_stripe = [
        each for each in gateway.list_all("invoices", {"customer": stripe_id}) if each["status"] != "paid"
    ]
    assert {each["status"] for each in open_at_stripe} <= {"void"}, place


def test_f14_a_purchase_by_card_killed_at_twenty_places(buyer: MakeBuyer, kill: Kill) -> None:
    places = ["before _walk", *CARD, *GIVING]
    for number, place in enumerate(places):
        acme = buyer(f"acme-{number}")
        kill(place, "buy", ask(acme).pk)
        recover()
        assert_whole(acme, place=place)
    assert len(places) == 20


def test_f14_a_top_up_killed_before_it_was_asked_for_until_after_it_was_given(buyer: MakeBuyer, kill: Kill) -> None:
    for number, place in enumerate(["before ask_for_top_up", "after ask_for_top_up", *of_write("pay:1"), *GIVING]):
        acme = buyer(f"acme-{number}")
        switch_on(acme)
        kill(place, "top up", acme.organization.pk)
        assert (top_ups.check(acme.organization.pk, now=MIDMONTH) is not None) == place.endswith("ask_for_top_up")
        recover()
        assert_whole(acme, place=place)


def test_f14_a_declined_purchase_killed_on_its_way_out(stripe: RunningSandbox, buyer: MakeBuyer, kill: Kill) -> None:
    for number, place in enumerate(["before decline", "after decline", *of_write("void")]):
        acme = buyer(f"acme-{number}", card="pm_card_chargeCustomerFail")
        kill(place, "buy", ask(acme).pk)
        recover()
        assert_whole(acme, place=place, credited=0)


def test_f14_a_checkout_killed_while_it_opens_and_while_it_is_credited(
    stripe: RunningSandbox, buyer: MakeBuyer, kill: Kill
) -> None:
    places = [*of_write("session"), *GIVING]
    for number, place in enumerate(places):
        acme = buyer(f"acme-{number}", card=None)
        purchase = ask(acme, **CHECKOUT)
        if place in GIVING:
            purchase_payment.advance(purchase, now=MIDMONTH)
            pay(stripe, purchase)
            kill(place, "buy", purchase.pk)
        else:
            kill(place, "buy", purchase.pk)
            _open_again(purchase)
            pay(stripe, purchase)
        recover()
        assert_whole(acme, place=place)


def _open_again(purchase: Any) -> None:
    deadline = time.monotonic() + 20
    while not purchase.checkout_url and time.monotonic() < deadline:
        purchase_payment.advance(purchase, now=MIDMONTH)
