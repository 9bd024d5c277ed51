"""`Account.has_card` is billing's fact, kept by a trigger: no path may change a card without it."""

import pytest

from billing_portal.billing import card_facts, card_records, tasks
from billing_portal.billing.models import Customer, PaymentMethod
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(acme, now):
    accounts.open(organization=acme, now=now)
    return Customer.objects.create(organization=acme, stripe_customer_id="cus_1", created_at=now)


def card(organization, now, name="pm_1", fingerprint="f1"):
    details = {"id": name, "type": "card", "card": {"fingerprint": fingerprint, "funding": "credit"}}
    return card_records.store(organization, details, now=now, setup=None)


def has_card(organization):
    return Account.objects.get(organization=organization).has_card


def test_the_first_card_and_the_removal_of_the_last_are_known(customer, acme, now):
    assert not has_card(acme)
    first = card(acme, now)
    assert has_card(acme)
    second = card(acme, now, "pm_2", "f2")
    card_records.retire(first, now=now)
    assert has_card(acme)
    card_records.retire(second, now=now)
    assert not has_card(acme)


def test_a_card_entered_again_goes_on_counting(customer, acme, now):
    card(acme, now)
    card(acme, now, "pm_again")
    assert has_card(acme)


def test_f40_cards_that_go_with_the_customer_are_known(customer, acme, now):
    card(acme, now)
    PaymentMethod.objects.filter(organization=acme).update(removed_at=now, is_default=False)
    assert not has_card(acme)


def test_i16_a_card_counts_for_its_own_organization_only(customer, acme, other, now):
    accounts.open(organization=other, now=now)
    card(acme, now)
    assert not has_card(other)


@pytest.mark.parametrize("with_card", [True, False])
def test_an_account_that_knows_the_wrong_thing_is_found_and_mended(with_card, customer, acme, now):
    if with_card:
        card(acme, now)
    assert card_facts.misstated().count() == 0
    Account.objects.filter(organization=acme).update(has_card=not with_card)
    assert [account.organization for account in card_facts.misstated()] == [acme]
    tasks.mend_card_facts()
    assert has_card(acme) == with_card
    assert card_facts.mend() == 0
