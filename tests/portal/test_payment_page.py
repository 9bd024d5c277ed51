"""The page of an invoice's payment: why it failed, what comes next, and every way to pay."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing_portal.billing import interim_walk, overdue_walk
from billing_portal.billing.models import Invoice, Overdue, PaymentMethod
from tests.billing.conftest import limited, sandbox_process, stripe, subscribed  # noqa: F401 - fixtures
from tests.billing.world import MIDMONTH, save_card, use
from tests.conftest import join
from tests.stripe.conftest import RunningSandbox

LATER = MIDMONTH + timedelta(hours=12)


def text_of(client: Client, address: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", client.get(address).content.decode()))


def test_it_says_why_and_what_stops_and_is_paid_with_another_card(
    client: Client,
    stripe: RunningSandbox,  # noqa: F811
    limited: Callable[..., Organization],  # noqa: F811
    alice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": LATER}
    monkeypatch.setattr("accounts.clock.now", lambda: clock["now"])
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    acme = limited("acme")
    join(acme, alice, Membership.Role.OWNER)
    use(acme, 12, seed=1)
    stripe.faults(decline_next={"code": "expired_card", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    invoice = Invoice.objects.get()
    page = reverse("invoice_payment", args=[acme.public_id, invoice.public_id])
    assert "We are asking Stripe why" in text_of(client, page)
    overdue_walk.advance_waiting(now=LATER)
    text = text_of(client, page)
    assert "The card has expired. Enter the new card. It was Visa 4242" in text
    assert "Usage stops, unless it is paid" in text
    bill = reverse("invoice", args=[acme.public_id, invoice.public_id])
    assert "Usage stops on" in text_of(client, bill)
    use(acme, 4, seed=2)
    for address in (page, bill):
        assert "and $5.00 may be owed at most" in text_of(client, address)
    other = save_card(acme, "pm_card_mastercard", now=LATER)
    PaymentMethod.objects.filter(is_default=True).update(is_default=False)
    PaymentMethod.objects.exclude(pk=other.pk).update(is_default=True)
    clock["now"] = Overdue.objects.get().stops_at
    for address in (page, bill):
        assert "Usage is stopped since" in text_of(client, address)
    overview = text_of(client, reverse("overview", args=[acme.public_id]))
    assert "New calls are refused; they are taken again the moment it is paid." in overview
    answer = client.post(
        reverse("invoice_pay", args=[acme.public_id, invoice.public_id]),
        {"key": "0b1f6c5e-3a55-4a2c-8a0e-1f6f2f6e5f10", "card": other.pk, "from_now_on": "1"},
        follow=True,
    ).content.decode()
    assert "Mastercard 4444 is charged from now on." in answer.replace("mastercard", "Mastercard")
    assert "Usage is stopped" not in text_of(client, reverse("overview", args=[acme.public_id]))
    assert "This invoice is paid" in text_of(client, page)
    foreign = client.post(
        reverse("invoice_pay", args=[acme.public_id, invoice.public_id]), {"card": other.pk + 1_000_000}
    )
    assert foreign.status_code == 404
