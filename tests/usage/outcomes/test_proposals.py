"""Proposed rules: previewed on the last full month, decided by a second person, entered without a deployment."""

import json
import time
import uuid
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import people
from tests.usage.outcomes.conftest import event
from usage import proposing
from usage.models import Conversation, OutcomeRuleVersion, PriceBook, RuleProposal
from usage.outcomes import charging, impacts, proposals, recording, rules
from usage.price_documents import PriceDocumentInvalid

pytestmark = pytest.mark.django_db
BEGAN = datetime.fromisoformat("2026-09-10T08:00:00+00:00")
DECEMBER = "2026-12-01T00:00:00+00:00"
PRICES = {"resolution": "0.99", "procedure_handoff": "0.99", "disqualification": "0.99", "qualification": "9.99"}
IN_FORCE = {
    "starts_at": DECEMBER,
    "window_hours": 24,
    "precedence": ["qualification", "disqualification", "procedure_handoff", "resolution"],
    "confirming_replies": ["affirmative"],
    "reversing_replies": ["needs_help"],
    "confirming_rating": 4,
    "reversing_rating": 2,
    "prices": PRICES,
}


@pytest.fixture
def sam(db):
    return people.admit(email="sam@desk.example", password="x", name="Sam Stone", is_staff=True)


@pytest.fixture
def tess(db):
    return people.admit(email="tess@desk.example", password="x", name="Tess Tern", is_staff=True)


@pytest.fixture
def september(ruled, acme, now):
    """Acme's September: one resolution assumed after a rating of 3, one confirmed, one given up, one qualification."""
    told = [
        *(said("assumed", "ai_answered"), said("assumed", "customer_rated", 1, rating=3)),
        *(said("confirmed", "ai_answered"), said("confirmed", "customer_replied", 1, reply_kind="affirmative")),
        *(said("helpless", "ai_answered"), said("helpless", "customer_replied", 1, reply_kind="needs_help")),
        *(said("lead", "ai_answered"), said("lead", "qualified", 1)),
    ]
    record(told, now)
    return acme


def said(conversation, kind, hours=0, **fields):
    item = event(kind, hours, conversation=conversation, **fields)
    return item | {"occurred_at": (BEGAN + timedelta(hours=hours)).isoformat()}


def record(told, now):
    recording.record([json.dumps(each).encode() for each in told], now=now)
    for organization_id in charging.organizations_due(now=now):
        charging.charge_due(organization_id, now=now)


def propose(by, now, *, key=None, reason="Ratings of 3 help nobody", **changes):
    book = PriceBook.objects.get(reference="parley-usd")
    return proposals.propose(
        book=book, document={**IN_FORCE, **changes}, reason=reason, public_id=key or uuid.uuid4(), by=by, now=now
    )


def previewed(proposal):
    return impacts.run(proposal.pk, clock=time.monotonic)


def test_i06_the_same_rules_again_change_nothing_to_the_micro(september, sam, now):
    seen = previewed(propose(sam, now))
    assert seen.state == "previewed"
    assert seen.summary["conversations"] == 4
    assert seen.summary["before"] == seen.summary["after"]
    assert seen.summary["before"] == {"resolution": [2, 1_980_000], "qualification": [1, 9_990_000]}
    assert seen.summary["flips"] == {}
    assert seen.summary["alike"] == seen.summary["organizations"] == 1


def test_a_preview_says_revenue_winners_and_what_would_flip(september, sam, now):
    prices = PRICES | {"resolution": "1.10"}
    seen = previewed(propose(sam, now, reversing_rating=3, prices=prices))
    impact = seen.impacts.get()
    assert impact.organization == september
    assert (impact.before_micros, impact.after_micros) == (11_970_000, 11_090_000)
    assert impact.flips == {"resolution:assumed>": {"count": 1, "examples": ["assumed"]}}
    assert (seen.summary["cheaper"], seen.summary.get("dearer", 0)) == (1, 0)


def test_the_preview_of_a_month_ends_with_the_customers_own_month(september, sam, now):
    """Conversations that began in another month of the organization's zone are not in it."""
    september.time_zone = "Pacific/Auckland"
    september.save()
    late = said("october-there", "ai_answered") | {"occurred_at": "2026-09-30T12:00:00+00:00"}
    record([late], now)
    assert previewed(propose(sam, now)).summary["conversations"] == 4


def test_organizations_with_rules_of_their_own_are_not_concerned(september, sam, now):
    own = PriceBook.objects.create(reference="acme-own", name="Acme", currency="USD", organization=september)
    rules.load({"rules": [{**IN_FORCE, "book": "acme-own", "number": 1}]}, now=now)
    assert previewed(propose(sam, now, starts_at="2026-12-02T00:00:00+00:00")).summary == {
        "before": {},
        "after": {},
        "flips": {},
    }
    earlier = previewed(propose(sam, now, starts_at="2026-11-30T00:00:00+00:00"))
    assert earlier.summary["organizations"] == 1
    assert own.outcome_rules.count() == 1


def test_f14_a_preview_that_was_killed_goes_on_where_it_was(september, sam, now, monkeypatch):
    monkeypatch.setattr(impacts, "STEP", 1)
    proposal = propose(sam, now, reversing_rating=3)
    ticks = iter(range(100))
    impacts.run(proposal.pk, clock=lambda: float(next(ticks)), seconds=2)
    assert proposal.impacts.get().conversations == 1
    # The killed one still holds the lease; only when that has run out does another go on.
    RuleProposal.objects.filter(pk=proposal.pk).update(lease=uuid.uuid4())
    assert impacts.run(proposal.pk, clock=time.monotonic) is None
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_ruleproposal SET touched_at = now() - interval '1 hour'")
    assert impacts.abandoned(10) == [proposal.pk]
    stepwise = previewed(proposal).summary
    monkeypatch.setattr(impacts, "STEP", 2_000)
    assert previewed(propose(sam, now, reversing_rating=3)).summary == stepwise


def test_rules_are_entered_when_a_second_person_agrees(september, sam, tess, now):
    proposal = previewed(propose(sam, now, prices=PRICES | {"resolution": "1.10"}))
    with pytest.raises(proposing.NotOpen):
        proposals.approve(proposal.public_id, by=tess, now=now)
    proposals.ask(proposal.public_id, by=sam, now=now)
    with pytest.raises(proposing.SamePerson):
        proposals.approve(proposal.public_id, by=sam, now=now)
    entered = proposals.approve(proposal.public_id, by=tess, now=now)
    assert proposals.approve(proposal.public_id, by=tess, now=now).version == entered.version
    assert (entered.version.number, entered.version.starts_at.isoformat()) == (2, DECEMBER)
    book = rules.current([september.pk])[september.pk]
    assert book.at(now).number == 1
    assert book.at(entered.version.starts_at).prices["resolution"] == 1_100_000


def test_what_was_judged_stays_judged(september, sam, tess, now):
    before = list(Conversation.objects.order_by("id").values())
    proposal = previewed(propose(sam, now, reversing_rating=3))
    proposals.ask(proposal.public_id, by=sam, now=now)
    proposals.approve(proposal.public_id, by=tess, now=now)
    assert list(Conversation.objects.order_by("id").values()) == before


def test_nothing_is_decided_on_the_preview_of_another_month(september, sam, tess, now):
    proposal = previewed(propose(sam, now))
    proposals.ask(proposal.public_id, by=sam, now=now)
    november = now + timedelta(days=20)
    with pytest.raises(proposing.PreviewOutdated):
        proposals.approve(proposal.public_id, by=tess, now=november)
    again = previewed(proposals.preview_again(proposal.public_id, now=november))
    assert (again.month.month, again.state) == (10, "previewed")


def test_rules_start_in_the_future_and_at_an_instant_of_their_own(september, sam, tess, now):
    with pytest.raises(proposing.StartPassed):
        propose(sam, now, starts_at=(now - timedelta(seconds=1)).isoformat())
    first, second = previewed(propose(sam, now)), previewed(propose(sam, now))
    for each in (first, second):
        proposals.ask(each.public_id, by=sam, now=now)
    proposals.approve(first.public_id, by=tess, now=now)
    with pytest.raises(proposing.StartTaken):
        proposals.approve(second.public_id, by=tess, now=now)
    assert OutcomeRuleVersion.objects.filter(book__reference="parley-usd").count() == 2


def test_f27_a_form_that_is_sent_twice_is_one_proposal(september, sam, now):
    key = uuid.uuid4()
    assert propose(sam, now, key=key) == propose(sam, now, key=key)
    with pytest.raises(proposing.ProposalReused):
        propose(sam, now, key=key, window_hours=48)


def test_a_document_that_is_wrong_names_the_field(september, sam, now):
    with pytest.raises(PriceDocumentInvalid) as wrong:
        propose(sam, now, prices={"resolution": "0.99"})
    assert wrong.value.path == "prices"
    assert RuleProposal.objects.count() == 0


def test_i12_what_was_decided_stands(september, sam, tess, now):
    proposal = previewed(propose(sam, now))
    proposals.ask(proposal.public_id, by=sam, now=now)
    proposals.decline(proposal.public_id, by=tess, reason="Too dear", now=now)
    with pytest.raises(ProgrammingError, match="is decided"), transaction.atomic():
        RuleProposal.objects.update(reason="Another")
    with pytest.raises(ProgrammingError, match="Cannot delete"), transaction.atomic():
        RuleProposal.objects.all()._raw_delete("default")
    with pytest.raises(proposing.NotOpen):
        proposals.withdraw(proposal.public_id, by=sam)


def test_the_database_refuses_that_one_person_decides(september, sam, now):
    proposal = previewed(propose(sam, now))
    with pytest.raises(IntegrityError, match="decided_by_another"), transaction.atomic():
        RuleProposal.objects.filter(pk=proposal.pk).update(state="declined", decided_by=sam, decided_at=now)


KINDS = [
    ("ai_answered", {}),
    ("customer_replied", {"reply_kind": "affirmative"}),
    ("customer_replied", {"reply_kind": "needs_help"}),
    ("customer_rated", {"rating": 3}),
    ("escalated", {}),
    ("procedure_handoff", {}),
]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 60)), min_size=1, max_size=5), max_size=12))
def test_i06_i08_the_same_rules_and_splits_agree_for_any_conversations(ruled, acme, sam, now, months):
    """The same rules give what was charged; a preview in steps of one equals one in a single step (I8)."""
    with transaction.atomic():
        told = [
            said(f"c{index}", kind, hours, event_id=f"{index}.{place}", **fields)
            for index, events in enumerate(months)
            for place, ((kind, fields), hours) in enumerate([((("ai_answered", {})), 0), *events])
        ]
        record(told, now)
        same, other = propose(sam, now), propose(sam, now, reversing_rating=3, window_hours=48)
        assert previewed(same).summary.get("flips") == {}
        charged = OutcomeRuleVersion.objects.raw(
            "SELECT 1 AS id, coalesce(sum(price_micros), 0) AS micros FROM usage_outcomecharge "
            "WHERE kind = 'charge' AND withdrawn_at IS NULL"
        )[0].micros
        assert previewed_micros(same) == charged
        whole = previewed(other).summary
        step, impacts.STEP = impacts.STEP, 1
        try:
            assert previewed(proposals.preview_again(other.public_id, now=now)).summary == whole
        finally:
            impacts.STEP = step
        transaction.set_rollback(True)


def previewed_micros(proposal):
    return sum(proposal.impacts.values_list("before_micros", flat=True))


# ── Taken back ────────────────────────────────────────────────────────────────────────────────────────────────────────


def entered(by, approver, now, **changes):
    proposal = previewed(propose(by, now, **changes))
    proposals.ask(proposal.public_id, by=by, now=now)
    return proposals.approve(proposal.public_id, by=approver, now=now)


def test_entered_rules_are_taken_back_before_they_start_and_what_was_in_force_stays(september, sam, tess, now):
    proposal = entered(sam, tess, now)
    before = rules.current([september.pk])[september.pk]
    for _ in range(2):
        revoked = proposals.revoke(proposal.public_id, by=tess, reason="The date was wrong.", now=now)
    assert (revoked.state, revoked.version, revoked.revoked_by) == ("revoked", None, tess)
    after = rules.current([september.pk])[september.pk]
    assert len(after.public) == len(before.public) - 1
    assert after.at(proposal.starts_at) == before.at(now)
    again = entered(sam, tess, now)
    assert again.version is not None
    assert again.version.starts_at == proposal.starts_at


def test_rules_that_start_within_minutes_or_are_not_entered_are_not_taken_back(september, sam, tess, now):
    waiting = previewed(propose(sam, now))
    with pytest.raises(proposing.NotOpen):
        proposals.revoke(waiting.public_id, by=tess, reason="x", now=now)
    proposals.ask(waiting.public_id, by=sam, now=now)
    proposals.approve(waiting.public_id, by=tess, now=now)
    soon = waiting.starts_at - proposing.LAST_TAKEN_BACK
    with pytest.raises(proposing.TooLate):
        proposals.revoke(waiting.public_id, by=tess, reason="x", now=soon)
    assert rules.current([september.pk])[september.pk].at(waiting.starts_at).starts_at == waiting.starts_at


@pytest.mark.parametrize("change", ["reason = 'other'", "state = 'withdrawn'", "revoked_reason = 'x'"])
def test_the_database_lets_nothing_else_of_an_entered_proposal_change(september, sam, tess, now, change):
    entered(sam, tess, now)
    with pytest.raises((ProgrammingError, IntegrityError)), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE usage_ruleproposal SET {change}")
