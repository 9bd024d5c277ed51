"""Disputes: opened once, answered in time, decided once, and no final byte changes."""

import uuid
from datetime import date, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import ProtectedError

from accounts import people
from accounts.models import Letter
from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute, DisputeMessage, Invoice, InvoiceLine
from billing_portal.ledger import accounts, balances, settlement, verification
from billing_portal.ledger.models import Account, Grant
from billing_portal.support import actions, kinds
from tests.billing import world
from usage import amendments, calls, charges

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)
CALL = "call_1_2"


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def sam(db):
    return people.admit(email="sam@desk.example", password="x", name="Sam Stone", is_staff=True)


@pytest.fixture
def tess(db):
    return people.admit(email="tess@desk.example", password="x", name="Tess Tern", is_staff=True)


@pytest.fixture
def used(acme, now):
    """Acme with October's calls, and a final invoice of them."""
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 6, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    return acme


@pytest.fixture
def line(used, now):
    invoice = Invoice.objects.create(
        organization=used,
        stripe_invoice_id="in_acme",
        number="ACME-0001",
        month=OCTOBER,
        currency="USD",
        total_minor=80_00,
        drafted_at=now,
    )
    made = InvoiceLine.objects.create(
        organization=used,
        invoice=invoice,
        stripe_line_id="il_1",
        position=1,
        kind="usage",
        component="voice",
        amount_minor=80_00,
        currency="USD",
    )
    Invoice.objects.filter(pk=invoice.pk).update(state="paid")
    return made


def opened(organization, by, now, *, kind="call", reference=CALL, micros=None, key=None):
    return cases.open(
        organization=organization,
        kind=kind,
        reference=reference,
        reason="never_happened",
        text="Nobody called.",
        claimed_micros=micros or subjects.find(organization, kind, reference).amount_micros,
        public_id=key or uuid.uuid4(),
        by=by,
        now=now,
    )


def decide(organization, by, now, *, kind, dispute, key=None, reason="You are right", **params):
    return actions.ask(
        kind=kinds.named(kind),
        organization=organization,
        params={"dispute": str(dispute.public_id), **params},
        reason=reason,
        public_id=key or uuid.uuid4(),
        by=by,
        now=now,
    )


def price_of(organization, call_id=CALL):
    return charges.of(calls.find(organization.pk, call_id)).price_micros


def credit(organization, now):
    return balances.balance(Account.objects.get(organization=organization), now=now).credit_micros


def test_a_dispute_names_what_it_cost_and_when_the_answer_is_due(used, alice, now, settings):
    dispute = opened(used, alice, now)
    assert (dispute.state, dispute.amount_micros) == ("open", price_of(used))
    assert dispute.due_at == now + settings.DISPUTE_ANSWER_WITHIN
    assert [each.text for each in dispute.messages.all()] == ["Nobody called."]
    assert set(Letter.objects.values_list("to", flat=True)) == {alice.email, *settings.STAFF_NOTICE_EMAILS}
    to_staff = Letter.objects.get(to=settings.STAFF_NOTICE_EMAILS[0])
    assert f"/staff/disputes/{dispute.public_id}/" in to_staff.text
    assert "Nobody called." in to_staff.html


def test_f27_one_form_opens_one_dispute_and_a_subject_has_one_open(used, alice, now):
    key = uuid.uuid4()
    assert opened(used, alice, now, key=key) == opened(used, alice, now, key=key)
    with pytest.raises(cases.AlreadyOpen):
        opened(used, alice, now)
    assert DisputeMessage.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        Dispute.objects.filter(pk=opened(used, alice, now, reference="call_1_3").pk).update(reference=CALL)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("call", "call_nowhere"),
        ("call", "call_1_2\0"),
        ("call", ""),
        ("call", "x" * 300),
        ("conversation", "nowhere"),
        ("invoice_line", "nonsense"),
        ("invoice_line", "26a3771e-ffb8-4816-968d-f39f01a94405/voice"),
        ("rumour", "x"),
    ],
)
def test_what_is_not_there_cannot_be_disputed(used, alice, now, kind, reference):
    with pytest.raises(subjects.SubjectMissing):
        opened(used, alice, now, kind=kind, reference=reference, micros=1)


def test_i16_another_organizations_call_and_line_are_missing(line, other, charlie, now):
    accounts.open(organization=other, now=now)
    for kind, reference in (("call", CALL), ("invoice_line", subjects.line_reference(line.invoice, "voice"))):
        with pytest.raises(subjects.SubjectMissing):
            opened(other, charlie, now, kind=kind, reference=reference, micros=1)


def test_more_than_it_cost_cannot_be_claimed(used, alice, now):
    with pytest.raises(cases.NotDisputable):
        opened(used, alice, now, micros=price_of(used) + 1)
    assert not Dispute.objects.exists()


def test_the_turn_passes_with_each_message_and_the_time_begins_anew(used, alice, sam, now, settings):
    dispute = opened(used, alice, now)
    key = uuid.uuid4()
    for _ in range(2):
        cases.write(dispute, text="Which agent?", by=sam, from_vendor=True, public_id=key, now=now)
    dispute.refresh_from_db()
    assert (dispute.due_at, dispute.messages.count()) == (None, 2)
    assert "Which agent?" in Letter.objects.filter(to=alice.email).order_by("id").last().text
    later = now + timedelta(days=3)
    cases.write(dispute, text="The German one.", by=alice, from_vendor=False, public_id=uuid.uuid4(), now=later)
    dispute.refresh_from_db()
    assert dispute.due_at == later + settings.DISPUTE_ANSWER_WITHIN


def test_staff_see_the_first_deadline_first_and_those_of_the_customer_last(used, alice, sam, now):
    late = opened(used, alice, now + timedelta(days=1), reference="call_1_1")
    first = opened(used, alice, now, reference="call_1_2")
    theirs = opened(used, alice, now, reference="call_1_3")
    cases.write(theirs, text="?", by=sam, from_vendor=True, public_id=uuid.uuid4(), now=now)
    assert list(cases.waiting()) == [first, late, theirs]


def test_staff_are_told_of_a_late_answer_once(used, alice, now, settings):
    opened(used, alice, now)
    due = now + settings.DISPUTE_ANSWER_WITHIN
    assert cases.remind(now=due - timedelta(seconds=1)) == 0
    assert [cases.remind(now=due), cases.remind(now=due + timedelta(days=1))] == [1, 0]
    assert Letter.objects.filter(subject__startswith="The answer is late").count() == 1


def test_i13_a_granted_dispute_gives_its_credit_once(used, alice, sam, now):
    dispute, before = opened(used, alice, now), credit(used, now)
    price, key = price_of(used), uuid.uuid4()
    for _ in range(2):
        decide(used, sam, now, kind="grant_dispute", dispute=dispute, key=key, micros=price)
    with pytest.raises(actions.Refused):
        decide(used, sam, now, kind="grant_dispute", dispute=dispute, micros=price)
    with pytest.raises(cases.AlreadyDecided):
        cases.grant(dispute, micros=price, decision="Again", by=sam, now=now)
    dispute.refresh_from_db()
    assert (dispute.state, dispute.given_micros, dispute.decision) == ("granted", price, "You are right")
    assert (dispute.grant.kind, dispute.grant.expires_at) == (Grant.Kind.CORRECTION, None)
    assert credit(used, now) == before + price
    assert list(verification.verify(used.pk)) == []
    assert "was granted" in Letter.objects.filter(to=alice.email).order_by("id").last().subject


def test_what_was_given_back_cannot_be_given_back_again(used, alice, sam, now):
    part = price_of(used) - 10
    decide(used, sam, now, kind="grant_dispute", dispute=opened(used, alice, now), micros=part)
    with pytest.raises(cases.NotDisputable):
        opened(used, alice, now, micros=11)
    again = opened(used, alice, now, micros=10)
    with pytest.raises(actions.Refused, match="At most"):
        decide(used, sam, now, kind="grant_dispute", dispute=again, micros=11)
    decide(used, sam, now, kind="grant_dispute", dispute=again, micros=10)
    assert sum(Dispute.objects.values_list("given_micros", flat=True)) == price_of(used)


def test_f48_a_corrected_call_is_not_given_back_twice(used, alice, sam, now):
    dispute = opened(used, alice, now)
    with pytest.raises(actions.Refused, match="Nothing was corrected"):
        decide(used, sam, now, kind="grant_dispute", dispute=dispute, micros=0)
    price = price_of(used)
    amendments.amend(
        used,
        CALL,
        amendments.Amendment(is_cancelled=True),
        replaces=1,
        reason="Never happened",
        author_id=sam.pk,
        reference="staff:1",
        now=now,
    )
    with pytest.raises(actions.Refused, match=r"At most 0\.00"):
        decide(used, sam, now, kind="grant_dispute", dispute=dispute, micros=price)
    decide(used, sam, now, kind="grant_dispute", dispute=dispute, micros=0)
    dispute.refresh_from_db()
    assert (dispute.state, dispute.given_micros, dispute.grant) == ("granted", 0, None)
    assert "given back already" in Letter.objects.filter(to=alice.email).order_by("id").last().text


def test_above_the_limit_a_second_person_grants_it(line, alice, sam, tess, now):
    reference = subjects.line_reference(line.invoice, "voice")
    dispute = opened(line.organization, alice, now, kind="invoice_line", reference=reference)
    assert dispute.amount_micros == 80_000_000
    action = decide(line.organization, sam, now, kind="grant_dispute", dispute=dispute, micros=80_000_000)
    dispute.refresh_from_db()
    assert (action.state, dispute.state) == ("waiting", "open")
    with pytest.raises(actions.SamePerson):
        actions.approve(action.public_id, by=sam, now=now)
    actions.approve(action.public_id, by=tess, now=now)
    dispute.refresh_from_db()
    assert (dispute.state, dispute.given_micros) == ("granted", 80_000_000)


def test_i12_f48_a_granted_dispute_leaves_every_byte_of_the_final_invoice(line, alice, sam, now):
    def rows():
        return list(Invoice.objects.values()), list(InvoiceLine.objects.values())

    before = rows()
    reference = subjects.line_reference(line.invoice, "voice")
    dispute = opened(line.organization, alice, now, kind="invoice_line", reference=reference, micros=5_000_000)
    decide(line.organization, sam, now, kind="grant_dispute", dispute=dispute, micros=5_000_000)
    assert rows() == before


def test_i13_of_an_open_invoice_the_line_is_lowered_by_a_credit_note_once(line, alice, sam, now, monkeypatch):
    asked = []
    monkeypatch.setattr("billing_portal.billing.credit_note_tasks.ask_to_issue", asked.append)
    still_open = Invoice.objects.create(
        organization=line.organization,
        stripe_invoice_id="in_open",
        month=date(2026, 9, 1),
        currency="USD",
        subtotal_minor=20_00,
        total_minor=20_00,
        amount_due_minor=20_00,
        drafted_at=now,
    )
    fields = {"stripe_line_id": "il_3", "position": 1, "kind": "usage", "component": "llm", "amount_minor": 20_00}
    InvoiceLine.objects.create(organization=line.organization, invoice=still_open, currency="USD", **fields)
    Invoice.objects.filter(pk=still_open.pk).update(state="open")
    reference = subjects.line_reference(still_open, "llm")
    dispute = opened(line.organization, alice, now, kind="invoice_line", reference=reference, micros=5_000_000)
    key = uuid.uuid4()
    for _ in range(2):
        decide(line.organization, sam, now, kind="grant_dispute", dispute=dispute, key=key, micros=5_000_000)
    dispute.refresh_from_db()
    assert (dispute.grant, dispute.given_micros) == (None, 5_000_000)
    assert asked == [dispute.credit_note]
    assert (dispute.credit_note.cause, dispute.credit_note.total_minor) == ("dispute", 5_00)
    assert not Grant.objects.exists()
    assert "comes off the open invoice" in Letter.objects.filter(to=alice.email).order_by("id").last().text


def test_a_draft_has_no_line_to_dispute(line, alice, now):
    draft = Invoice.objects.create(
        organization=line.organization, stripe_invoice_id="in_draft", currency="USD", drafted_at=now
    )
    fields = {"stripe_line_id": "il_2", "position": 1, "kind": "usage", "component": "llm", "amount_minor": 5}
    InvoiceLine.objects.create(organization=line.organization, invoice=draft, currency="USD", **fields)
    with pytest.raises(subjects.SubjectMissing):
        subjects.find(line.organization, "invoice_line", subjects.line_reference(draft, "llm"))


def test_a_rejected_dispute_gives_nothing_and_says_why(used, alice, sam, now):
    dispute = opened(used, alice, now)
    decide(used, sam, now, kind="reject_dispute", dispute=dispute, reason="The recording has both voices")
    dispute.refresh_from_db()
    assert (dispute.state, dispute.decision) == ("rejected", "The recording has both voices")
    assert not Grant.objects.exists()
    assert "both voices" in Letter.objects.filter(to=alice.email).order_by("id").last().text
    assert opened(used, alice, now).state == "open"  # with what they know now


def test_what_is_withdrawn_is_over(used, alice, sam, now):
    dispute = opened(used, alice, now)
    for _ in range(2):
        assert cases.withdraw(dispute, by=alice, now=now).state == "withdrawn"
    for act in (
        lambda: cases.reject(dispute, decision="No", by=sam, now=now),
        lambda: cases.grant(dispute, micros=1, decision="Yes", by=sam, now=now),
        lambda: cases.write(dispute, text="?", by=sam, from_vendor=True, public_id=uuid.uuid4(), now=now),
    ):
        with pytest.raises(cases.AlreadyDecided):
            act()


def test_what_was_decided_and_written_stands(used, alice, now):
    dispute = cases.withdraw(opened(used, alice, now), by=alice, now=now)
    for change in (
        lambda: Dispute.objects.filter(pk=dispute.pk).update(state="open", decided_at=None, decided_by=None),
        lambda: Dispute.objects.filter(pk=dispute.pk).delete(),
        lambda: DisputeMessage.objects.update(text="Another"),
    ):
        with pytest.raises((DatabaseError, ProtectedError)), transaction.atomic():
            change()
    assert Dispute.objects.get().state == "withdrawn"


def test_a_frozen_account_can_dispute_but_no_money_moves(used, alice, sam, now):
    accounts.freeze(used.pk, reason="A proof failed", now=now)
    dispute = opened(used, alice, now)
    with pytest.raises(accounts.AccountFrozen):
        decide(used, sam, now, kind="grant_dispute", dispute=dispute, micros=1)
    dispute.refresh_from_db()
    assert dispute.is_open
