import pytest

from accounts import organizations
from billing_portal.ledger import accounts, authorization, collections, credits, journal, settlement
from billing_portal.ledger.models import Account, Grant
from tests.charged import all_charges

pytestmark = pytest.mark.django_db


def decide(organization, now, *, has_card):
    account = Account.objects.select_related("organization").get(organization=organization)
    return authorization.authorize(account, has_card=has_card, now=now)


def test_credit_is_enough_without_a_card(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=5, reference="w", now=now)
    assert decide(acme, now, has_card=False) == authorization.Authorization(True, 5, None)


def test_without_credit_and_card_usage_stops_with_the_reason(acme, now):
    accounts.open(organization=acme, now=now)
    decision = decide(acme, now, has_card=False)
    assert (decision.allowed, decision.reason) == (False, authorization.Reason.CREDIT_USED_UP)


def test_a_card_carries_up_to_the_arrears_limit(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    gross = sum(charge.amount_micros for charge in all_charges())
    assert decide(acme, now, has_card=True).available_micros == 100_000_000 - gross
    Account.objects.filter(organization=acme).update(arrears_limit_micros=gross)
    decision = decide(acme, now, has_card=True)
    assert (decision.allowed, decision.reason) == (False, authorization.Reason.ARREARS_LIMIT)


def test_a_payment_makes_room_again(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    gross = sum(charge.amount_micros for charge in all_charges())
    paid = -(-gross // 10_000) * 10_000

    def pay():
        collections.collect(organization=acme, accrued_micros=gross, paid_micros=paid, reference="collect:1", now=now)

    pay()
    pay()
    assert decide(acme, now, has_card=True).available_micros == 100_000_000
    with pytest.raises(journal.ReferenceReused):
        collections.collect(organization=acme, accrued_micros=gross, paid_micros=1, reference="collect:1", now=now)


def test_a_suspended_organization_may_not_spend(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=5, reference="w", now=now)
    organizations.suspend(acme)
    assert decide(acme, now, has_card=True).reason == authorization.Reason.SUSPENDED
