"""The page of seats: both sides shown before anything is asked for, what waits, and who may do what."""

import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from accounts import clock
from accounts.models import Organization, User
from billing_portal.billing import seat_tasks
from billing_portal.billing.models import SeatMove, SeatPlan
from billing_portal.ledger import accounts
from tests.conftest import NOW
from tests.support.test_desk import text_of
from tests.support.test_outcome_rules import look
from tests.test_tenant_matrix import logged_in
from tests.usage.outcomes.conftest import ruled

__all__ = ["look", "ruled"]


@pytest.fixture
def plan(ruled: None, acme: Organization, monkeypatch: pytest.MonkeyPatch) -> SeatPlan:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(seat_tasks.advance_seat_move, "apply_async", lambda *args, **options: None)
    accounts.open(organization=acme, now=NOW)
    return SeatPlan.objects.create(
        organization=acme,
        stripe_subscription_id="sub_seats",
        seat_micros=29_000_000,
        currency="USD",
        base_seats=10,
        seats=10,
        units=0,
        unit_micros=990_000,
        attached_at=NOW,
    )


def page(acme: Organization, **query: Any) -> str:
    address = reverse("seats", args=[acme.public_id])
    return f"{address}?{urlencode(query)}" if query else address


@pytest.mark.django_db
def test_both_sides_are_shown_before_anything_happens(plan: SeatPlan, acme: Organization, alice: User) -> None:
    text = text_of(logged_in(alice).get(page(acme, seats=7)))
    for shown in ("From November 2026 on", "$290.00", "$203.00", "87", "$86.13", "$289.13", "−$0.87"):
        assert shown in text
    assert not SeatMove.objects.exists()
    assert "Keep between 0 and 10 seats" in text_of(logged_in(alice).get(page(acme, seats=11)))


@pytest.mark.django_db
def test_f27_a_change_is_asked_once_shown_while_it_waits_and_canceled(
    plan: SeatPlan, acme: Organization, alice: User
) -> None:
    client = logged_in(alice)
    shown = client.get(page(acme, seats=7)).content.decode()
    (key,) = re.findall(r'name="key" value="([^"]+)"', shown)
    for _ in range(2):
        answer = client.post(reverse("seat_move", args=[acme.public_id]), {"seats": "7", "key": key}, follow=True)
    move = SeatMove.objects.get()
    assert (str(move.public_id), move.seats, move.units) == (key, 7, 87)
    assert "A change waits for Stripe" in text_of(answer)
    answer = client.post(reverse("seat_move_cancel", args=[acme.public_id, move.public_id]), follow=True)
    assert "Seats and outcomes stay as they are" in text_of(answer)
    assert "Canceled" in text_of(client.get(page(acme)))


@pytest.mark.django_db
def test_who_may_not_manage_billing_looks_and_changes_nothing(plan: SeatPlan, acme: Organization, bob: User) -> None:
    fields = {"seats": "7", "key": str(uuid.uuid4())}
    assert logged_in(bob).post(reverse("seat_move", args=[acme.public_id]), fields).status_code == 403
    assert not SeatMove.objects.exists()


@pytest.mark.django_db
def test_without_seats_the_page_says_how_to_get_some(acme: Organization, alice: User) -> None:
    assert "You have no seats" in text_of(logged_in(alice).get(page(acme)))


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_page_is_sound_on_wide_and_narrow_screens(
    plan: SeatPlan, acme: Organization, alice: User, look: Callable[[Client, dict[str, str]], None]
) -> None:
    look(logged_in(alice), {"seats": page(acme, seats=7)})
