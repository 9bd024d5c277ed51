"""Who paid for one outcome, to the micro, and what came back for one that was taken back."""

from datetime import timedelta

import pgtrigger
import pytest

from billing_portal.ledger import accounts, credits, outcome_funding, settling
from billing_portal.ledger.models import Grant
from tests.ledger.test_buckets import PRICE, START, books, bucket, charge_of, come_back, resolve
from tests.usage.outcomes.conftest import event, raw
from usage.models import Conversation, ConversationEvent, EventKind, OutcomeCharge
from usage.outcomes import recording

__all__ = ["books"]
pytestmark = pytest.mark.django_db


def give(organization, micros, reference):
    return credits.grant(organization=organization, kind="prepaid", micros=micros, reference=reference, now=START)


def paid(reference):
    """Return who paid for the outcome of a conversation: a bucket, micros by grant, and what is accrued."""
    found = outcome_funding.of_charge(charge_of(reference))
    return found.bucket, dict(found.grants), found.accrued_micros


def reversal_of(reference):
    return OutcomeCharge.objects.get(conversation__reference=reference, kind="reversal")


def test_i04_each_outcome_is_paid_by_a_unit_or_by_its_own_part_of_the_credit(books, now):
    bucket(books, 1, reference="of others", outcomes=("qualification",))
    held = bucket(books, 1)
    first, second = give(books, PRICE + 10, "first"), give(books, PRICE, "second")
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    # Another settlement: what stands before it counts by itself.
    resolve(books, "c_3", "c_4", "c_5", now=now)
    settling.settle_all(books.pk, now=now)
    assert paid("c_1") == (held, {}, 0)
    assert paid("c_2") == (None, {first: PRICE}, 0)
    assert paid("c_3") == (None, {first: 10, second: PRICE - 10}, 0)
    assert paid("c_4") == (None, {second: 10}, PRICE - 10)
    assert paid("c_5") == (None, {}, PRICE)


def test_what_waits_for_settlement_is_paid_by_nobody_yet(books, now):
    resolve(books, "c_1", now=now)
    charge = charge_of("c_1")
    assert charge.sequence is None
    assert outcome_funding.of_charge(charge) is None
    assert outcome_funding.given_back(charge) is None


def test_another_organizations_outcomes_count_for_nothing(books, other, now):
    mine = give(books, PRICE, "g")
    accounts.open(organization=other, now=START)
    give(other, 5 * PRICE, "g")
    for organization, names in ((other, ("o_1", "o_2")), (books, ("c_1", "c_2"))):
        resolve(organization, *names, now=now)
        settling.settle_all(organization.pk, now=now)
    assert paid("c_1") == (None, {mine: PRICE}, 0)
    assert paid("c_2") == (None, {}, PRICE)


def test_f48_what_comes_back_is_a_unit_or_credit(books, now):
    held = bucket(books, 1, expires_at=now + timedelta(days=1))
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    come_back(books, "c_1", "c_2", now=now)
    assert outcome_funding.given_back(reversal_of("c_1")) is None
    settling.settle_all(books.pk, now=now)
    unit, money = (outcome_funding.given_back(reversal_of(each)) for each in ("c_1", "c_2"))
    assert (unit.bucket, unit.grant) == (held, None)
    assert (money.bucket, money.grant) == (None, Grant.objects.get(kind="correction"))


def test_a_conversation_whose_events_bear_its_outcome_keeps_it(books, now):
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    conversation = Conversation.objects.get(reference="c_1")
    assert outcome_funding.reconsider(conversation, now=now) is False
    assert not OutcomeCharge.objects.filter(kind="reversal").exists()


def test_what_a_conversations_events_do_not_bear_is_given_back_at_once(books, now):
    grant = give(books, PRICE, "g")
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    conversation = Conversation.objects.get(reference="c_1")
    with pgtrigger.ignore("usage.ConversationEvent:insert_only"):
        ConversationEvent.objects.filter(kind=EventKind.AI_ANSWERED, conversation_id=conversation.pk).delete()
    later = now + timedelta(days=2)
    assert outcome_funding.reconsider(conversation, now=later) is True
    back = outcome_funding.given_back(reversal_of("c_1"))
    assert (back.grant.amount_micros, back.grant.created_at) == (PRICE, later)
    assert paid("c_1") == (None, {grant: PRICE}, 0)
    conversation.refresh_from_db()
    assert outcome_funding.reconsider(conversation, now=later) is False
    assert Grant.objects.filter(kind="correction").count() == 1


def test_f48_the_credit_for_an_outcome_says_which_it_was_in_words(books, now):
    told = [event("ai_answered", conversation="c_1"), event("procedure_handoff", 1, conversation="c_1")]
    recording.record([raw(each | {"organization": books.reference}) for each in told], now=now)
    settling.settle_all(books.pk, now=now)
    conversation = Conversation.objects.get(reference="c_1")
    with pgtrigger.ignore("usage.ConversationEvent:insert_only"):
        ConversationEvent.objects.filter(kind=EventKind.AI_ANSWERED, conversation_id=conversation.pk).delete()
    assert outcome_funding.reconsider(conversation, now=now)
    assert Grant.objects.get().reason == "Conversation c_1: procedure handoff taken back"
