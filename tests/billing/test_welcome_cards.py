"""One welcome credit a card, from the card form at Stripe to the letter."""

from collections.abc import Callable

import pytest
from django.core import mail as outbox

from accounts import posting
from accounts.models import Letter, Organization, User
from billing_portal.billing import cards
from billing_portal.ledger import accounts, balances, welcome
from billing_portal.ledger.models import Account, Grant
from tests.billing.test_cards import MASTERCARD, VISA, confirm, handle_events
from tests.billing.world import MIDMONTH
from tests.stripe.conftest import RunningSandbox


@pytest.fixture
def save(stripe: RunningSandbox, alice: User) -> Callable[..., None]:
    def save(organization: Organization, number: str = VISA) -> None:
        started = cards.start(organization, alice, now=MIDMONTH)
        cards.accept_mandate(started.setup, alice, now=MIDMONTH)
        confirm(stripe, started, number)
        cards.finish(started.setup.stripe_setup_intent_id, now=MIDMONTH)

    return save


@pytest.fixture
def welcomed(stripe: RunningSandbox, acme: Organization, other: Organization) -> tuple[Organization, Organization]:
    for organization in (acme, other):
        accounts.open(organization=organization, now=MIDMONTH)
        welcome.give(organization=organization, email=f"a@{organization.reference}.example", now=MIDMONTH)
    return acme, other


def credit(organization: Organization) -> int:
    return balances.balance(Account.objects.get(organization=organization), now=MIDMONTH).credit_micros


def test_i13_the_second_account_with_a_card_loses_what_is_left_and_is_told_once(
    welcomed: tuple[Organization, Organization], save: Callable[..., None]
) -> None:
    acme, other = welcomed
    save(acme)
    save(other)
    handle_events()  # the webhooks of both cards finish them once more
    assert (credit(acme), credit(other)) == (10_000_000, 0)
    posting.post(Letter.objects.all(), now=MIDMONTH)
    letters = [message for message in outbox.outbox if "welcome credit" in message.subject]
    assert len(letters) == 1
    assert letters[0].to == ["charlie@other.example"]
    assert "Visa 4242" in letters[0].body
    assert "$10.00" in letters[0].body
    assert "Acme" not in letters[0].body
    assert f"/o/{other.public_id}/credits/" in letters[0].body
    assert cards.has_usable_card(other)


def test_another_card_keeps_the_credit(welcomed: tuple[Organization, Organization], save: Callable[..., None]) -> None:
    acme, other = welcomed
    save(acme)
    save(other, MASTERCARD)
    assert (credit(acme), credit(other)) == (10_000_000, 10_000_000)


def test_a_card_can_be_saved_while_the_account_is_frozen(
    welcomed: tuple[Organization, Organization], save: Callable[..., None]
) -> None:
    acme, other = welcomed
    save(acme)
    accounts.freeze(other.pk, reason="Test", now=MIDMONTH)
    save(other)
    assert cards.has_usable_card(other)
    assert Grant.objects.get(organization=other).remaining_micros == 10_000_000
