"""A corrected call: one more revision, charged for what it costs more, given back what it costs less, once."""

import threading
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing_portal.billing import reconciliation
from billing_portal.ledger import (
    accounts,
    balances,
    collections,
    credits,
    periods,
    settlement,
    standing,
    totals,
    verification,
)
from billing_portal.ledger.models import Account, GiveBack, Grant, SetOff
from tests.usage.conftest import call_object
from tests.usage.test_rollups import kept
from usage import calls, charges, deltas, ingestion, prices, rollup_upkeep, rollups
from usage.models import Call, CallRevision, DailyUsage, UnratedCall

pytestmark = pytest.mark.django_db

EVER = {"starts_on": date(2000, 1, 1), "ends_on": date(2100, 1, 1)}
VOICE, LLM, PLATFORM = "elevenlabs_tts", "gpt_4o_mini", "platform"


def correction(call_id="call_1", revision=1, **fields):
    return call_object(call_id, correction=True, revision=revision, **fields)


def price_of(call_id="call_1", organization=None):
    found = calls.find((organization or Organization.objects.get(reference="acme")).pk, call_id)
    return charges.of(found).price_micros


def net(organization, now):
    """Return what an organization pays in the end: all charges less all that was given back."""
    grants = Grant.objects.filter(organization=organization, kind="correction")
    return rollups.total(organization.pk, **EVER).micros - sum(grants.values_list("amount_micros", flat=True))


def assert_sound(organization):
    """Every proof there is of an organization's calls, sums and books."""
    assert list(verification.verify(organization.pk)) == []
    assert rollup_upkeep.verify(organization.pk) == []
    live = kept(organization)
    rollup_upkeep.rebuild(organization.pk)
    assert kept(organization) == live
    for month in DailyUsage.objects.filter(organization=organization).values_list("billed_month", flat=True).distinct():
        assert list(reconciliation.usage_differences(organization.pk, month, deep=True)) == []


def test_f48_a_dearer_call_is_charged_the_difference_and_a_cheaper_one_is_given_back(priced, acme, record, settle, now):
    record(call_object())
    settle(acme)
    first = price_of()
    (answer,) = record(correction(duration_ms=197_000))
    assert (answer.status, answer.revision, answer.rated) == ("recorded", 2, True)
    settle(acme)
    dearer = price_of()
    assert rollups.total(acme.pk, **EVER).micros == dearer > first
    assert Grant.objects.count() == 0
    record(correction(revision=2, duration_ms=60_000, correction_reason="The hold music was counted"))
    settle(acme)
    cheaper = price_of()
    assert cheaper < first
    assert rollups.total(acme.pk, **EVER).micros == dearer
    grant = Grant.objects.get()
    assert (grant.kind, grant.amount_micros, grant.expires_at) == ("correction", dearer - cheaper, None)
    assert grant.reason == "Call call_1, revision 3 instead of 2: The hold music was counted"
    # It pays at once for what the month has accrued, so the month costs less.
    assert grant.remaining_micros == 0
    assert balances.balance(Account.objects.get(organization=acme), now=now).accrued_micros == cheaper
    assert_sound(acme)


def test_counts_and_times_are_those_of_the_newest_revision(priced, acme, record, settle):
    record(call_object(), call_object("call_2"))
    settle(acme)
    record(correction(duration_ms=50_000, start_timestamp=1_760_086_400_000, end_timestamp=..., agent_id="agent_2"))
    settle(acme)
    total = rollups.total(acme.pk, **EVER)
    assert (total.calls, total.duration_ms) == (2, 147_000)
    days = DailyUsage.objects.filter(organization=acme)
    by_day = Counter()
    for day, counted in days.values_list("date", "calls"):
        by_day[day] += counted
    assert by_day == {date(2025, 10, 9): 1, date(2025, 10, 10): 1}
    by_agent = {reference: found.calls for reference, _, found in rollups.by_agent(acme.pk, **EVER)}
    assert by_agent == {"agent_1": 1, "agent_2": 1}
    used = {each.product: each.calls for each in rollups.by_product(acme.pk, **EVER)}
    assert used == {PLATFORM: 2, VOICE: 2, LLM: 2}
    assert_sound(acme)


def test_f48_a_cancelled_call_costs_nothing_whatever_it_says(priced, acme, record, settle, now):
    record(call_object())
    settle(acme)
    record(correction(call_status="cancelled"))
    settle(acme)
    assert price_of() == 0
    assert net(acme, now) == 0
    assert balances.balance(Account.objects.get(organization=acme), now=now).accrued_micros == 0
    found = calls.find(acme.pk, "call_1")
    assert (found.revision, found.kind.status, found.duration_ms, found.mix.products) == (2, "cancelled", 0, [])
    assert_sound(acme)


def test_f49_other_content_without_the_flag_stays_a_conflict(priced, acme, record):
    record(call_object())
    record(correction(duration_ms=1_000))
    (plain,) = record(call_object(duration_ms=5_000))
    assert plain.status == "conflict"
    assert [row.revision for row in calls.all_revisions(calls.find(acme.pk, "call_1"))] == [1, 2]


def test_i06_the_same_correction_again_is_a_duplicate(priced, acme, record, settle):
    record(call_object())
    sent = correction(duration_ms=1_000)
    assert [record(sent)[0].status for _ in range(3)] == ["recorded", "duplicate", "duplicate"]
    record(correction(revision=2, duration_ms=2_000))
    again = record(sent)[0]
    assert (again.status, again.revision) == ("duplicate", 2)
    # What any revision holds is known, with and without the flag; what the newest holds needs no correction.
    assert record(call_object())[0].status == "duplicate"
    assert record(call_object(duration_ms=1_000))[0].status == "duplicate"
    assert record(correction(revision=3, duration_ms=2_000))[0].status == "duplicate"
    assert CallRevision.objects.count() == 2


def test_f49_a_correction_of_another_revision_than_the_newest_names_the_newest(priced, acme, record):
    record(call_object())
    record(correction(duration_ms=1_000))
    for stale in (1, 3):
        (answer,) = record(correction(revision=stale, duration_ms=7_000))
        assert (answer.status, answer.field, answer.revision) == ("conflict", "revision", 2)
        assert "Revision 2 is the newest" in answer.reason
    assert CallRevision.objects.count() == 1


def test_an_unknown_call_cannot_be_corrected(priced, acme, other, record):
    record(call_object(organization="other"))
    (answer,) = record(correction())
    assert (answer.status, answer.field) == ("rejected", "call_id")
    assert Call.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"revision": ...}, "revision"),
        ({"revision": 0}, "revision"),
        ({"revision": 40_000}, "revision"),
        ({"revision": "first"}, "revision"),
        ({"correction": "maybe"}, "correction"),
        ({"correction": 1}, "correction"),
        ({"correction_reason": "x" * 201}, "correction_reason"),
    ],
)
def test_a_correction_says_what_it_replaces(priced, acme, record, fields, field):
    record(call_object())
    (answer,) = record({k: v for k, v in {**correction(duration_ms=1), **fields}.items() if v is not ...})
    assert (answer.status, answer.field) == ("rejected", field)


def test_a_revision_without_correction_is_a_free_field_as_ever(priced, acme, record):
    assert record(call_object(revision="v7"))[0].status == "recorded"
    assert calls.detail(calls.find(acme.pk, "call_1")).extra == {"revision": "v7"}
    assert record(call_object(revision="v7", correction=False))[0].status == "duplicate"
    (answer,) = record(correction(revision="1", duration_ms=5))
    assert answer.status == "recorded"
    assert calls.detail(calls.find(acme.pk, "call_1")) is None


def test_call_and_corrections_in_one_batch_follow_each_other(priced, acme, record, settle, now):
    answers = record(
        correction(revision=2, duration_ms=30_000, call_id="call_9"),
        correction(duration_ms=10_000),
        call_object(),
        correction(revision=2, duration_ms=20_000),
        correction(revision=1, duration_ms=10_000),
    )
    assert [(answer.status, answer.revision) for answer in answers] == [
        ("rejected", None),
        ("recorded", 2),
        ("recorded", None),
        ("recorded", 3),
        ("duplicate", 2),
    ]
    settle(acme)
    assert calls.find(acme.pk, "call_1").duration_ms == 20_000
    assert net(acme, now) == price_of()
    assert_sound(acme)


def test_a_call_without_a_price_can_be_corrected_and_is_charged_once(priced, acme, record, settle, now):
    record(call_object(products=["no_such_product"]), call_object("call_2", products=["another"]))
    (answer,) = record(correction(products=[PLATFORM]))
    assert (answer.status, answer.rated) == ("recorded", True)
    # What was never priced waits no more, and was never charged.
    assert list(UnratedCall.objects.values_list("call_id", flat=True)) == ["call_2"]
    record(correction("call_2", products=["a_third"]))
    assert UnratedCall.objects.get().missing == ["a_third"]
    record(correction("call_2", revision=2, products=[PLATFORM, VOICE]))
    settle(acme)
    assert not UnratedCall.objects.exists()
    assert rollups.total(acme.pk, **EVER).calls == 2
    assert net(acme, now) == price_of() + price_of("call_2")
    assert_sound(acme)


def test_a_revision_that_lacks_a_price_leaves_the_charge_until_it_has_one(acme, record, settle, now):
    load(now - timedelta(days=1000), {PLATFORM: 600_000})
    record(call_object(products=[PLATFORM], duration_ms=60_000))
    settle(acme)
    (answer,) = record(correction(products=["new_voice"], duration_ms=60_000))
    assert answer.rated is False
    settle(acme)
    assert rollups.total(acme.pk, **EVER).micros == 600_000
    later = now + timedelta(days=2)
    load(now + timedelta(days=1), {PLATFORM: 600_000, "new_voice": 200_000}, number=2, asked=now)
    assert ingestion.rate_unrated(now=later) == 1
    settle(acme, now=later)
    revision = CallRevision.objects.get()
    assert (revision.line_micros, revision.given_back_micros) == ([200_000], 600_000)
    assert net(acme, now) == price_of() == 200_000
    assert_sound(acme)


def load(starts_at, rates, *, number=1, asked=None):
    """Put prices a minute, in micros, in force as the public ones."""
    components = {PLATFORM: "platform", VOICE: "voice", LLM: "llm"}
    entries = [
        {
            "component": components.get(product, "voice"),
            "product": product,
            "unit": "minute",
            "rate": str(Decimal(micros) / 1_000_000),
        }
        for product, micros in rates.items()
    ]
    version = {"number": number, "starts_at": starts_at, "rates": entries}
    book = {"reference": "list", "name": "List", "currency": "USD", "default": True, "versions": [version]}
    return prices.load({"books": [book]}, now=asked or starts_at)


# ── Any sequence of corrections ───────────────────────────────────────────────────────────────────────────────────────

facts = st.fixed_dictionaries(
    {
        "duration_ms": st.integers(0, 400_000),
        "products": st.lists(st.sampled_from([PLATFORM, VOICE, "cartesia_tts", LLM, "unheard_of"]), max_size=3),
        "call_status": st.sampled_from(["ended", "ended", "ended", "cancelled"]),
        "start_timestamp": st.sampled_from([1_760_000_000_000, 1_760_043_000_000, 1_757_300_000_000]),
        "end_timestamp": st.just(...),
    }
)
steps = st.lists(st.tuples(st.integers(0, 1), facts, st.booleans()), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, credit=st.sampled_from([0, 90_000, 10_000_000]))
def test_i04_any_sequence_of_corrections_sums_to_the_last_price(
    priced, make_organization, record, settle, now, steps, credit
):
    with transaction.atomic():
        _play(make_organization, record, settle, now, steps, credit)
        transaction.set_rollback(True)


def _play(make_organization, record, settle, now, steps, credit):
    """Correct two calls in turn, settling or not in between, and hold the books to the prices of the newest."""
    organization = make_organization(f"o{CallRevision.objects.count()}-{id(steps)}")
    accounts.open(organization=organization, now=now)
    if credit:
        credits.grant(organization=organization, kind="welcome", micros=credit, reference="w", now=now)
    revision = {0: 0, 1: 0}
    for which, fields, then_settle in steps:
        made = revision[which]
        flags = {"correction": True, "revision": made} if made else {}
        item = call_object(f"call_{which}", organization=organization.reference, **{**fields, **flags})
        (answer,) = record(item)
        assert answer.status in {"recorded", "duplicate"}
        revision[which] = made + (answer.status == "recorded")
        if then_settle:
            settle(organization)
    settle(organization)
    newest = [calls.find(organization.pk, f"call_{which}") for which, made in revision.items() if made]
    in_force = sum(_net_of(call) for call in newest)
    assert net(organization, now) == in_force
    balance = balances.balance(Account.objects.get(organization=organization), now=now)
    assert balance.accrued_micros - balance.credit_micros == in_force - credit
    total = rollups.total(organization.pk, **EVER)
    settled = [call for call in newest if charges.of(call)]
    if len(settled) == len(newest):
        assert (total.calls, total.duration_ms) == (len(newest), sum(call.duration_ms for call in newest))
    assert_sound(organization)


def _net_of(call):
    """Return the price of the newest revision that has one; nothing is charged of others."""
    priced_ones = [charge.price_micros for each in calls.all_revisions(call) if (charge := charges.of(each))]
    return priced_ones[-1] if priced_ones else 0


lines = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=5)


@given(prices_in_turn=st.lists(lines, min_size=1, max_size=8))
def test_i17_charges_never_fall_and_less_what_was_given_back_are_the_last_price(prices_in_turn):
    before, charged, given_back = {}, Counter(), Counter()
    for price in prices_in_turn:
        components, micros = [c for c, _ in price], [m for _, m in price]
        delta = deltas.between(before, components, micros)
        assert all(0 <= part <= whole for part, whole in zip(delta.line_micros, micros, strict=False))
        assert all(micros > 0 for micros in delta.given_back.values())
        charged.update(deltas.by_component(components, delta.line_micros))
        given_back.update(delta.given_back)
        before = dict(deltas.by_component(components, micros))
        for component in "abc":
            assert charged[component] - given_back[component] == before.get(component, 0)


# ── Settled in any way ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 2, 7])
def test_i08_the_size_of_settlements_changes_no_sum(priced, acme, other, record, settle, now, size):
    for reference in ("acme", "other"):
        record(*[call_object(f"c{n}", organization=reference, duration_ms=50_000 + n) for n in range(9)])
        record(*[correction(f"c{n}", organization=reference, duration_ms=40_000 + 3_000 * n) for n in range(9)])
        record(*[correction(f"c{n}", revision=2, organization=reference, duration_ms=45_000) for n in range(0, 9, 2)])
    settle(acme)
    accounts.open(organization=other, now=now)
    while settlement.settle(other.pk, now=now, limit=size):
        pass
    assert kept(other) == kept(acme)
    assert net(other, now) == net(acme, now)
    one, two = (balances.balance(Account.objects.get(organization=each), now=now) for each in (acme, other))
    assert one == two
    assert_sound(other)


def test_i04_a_revision_settled_before_the_call_that_it_corrects_counts_once(priced, acme, record, settle, now):
    record(call_object(start_timestamp=1_760_100_000_000, end_timestamp=...))
    record(correction(start_timestamp=1_757_300_000_000, end_timestamp=...))
    accounts.open(organization=acme, now=now.replace(year=2025, month=9, day=1))
    while settlement.settle(acme.pk, now=now, limit=1):
        pass
    assert rollups.total(acme.pk, **EVER).calls == 1
    assert net(acme, now) == price_of()
    assert_sound(acme)


def test_f47_a_correction_of_a_closed_month_is_charged_in_the_open_one(priced, acme, record, settle, now):
    accounts.open(organization=acme, now=now.replace(year=2025, month=9, day=1))
    record(call_object(), call_object("call_2"))
    settlement.settle_all(acme.pk, now=now)
    october, november = date(2025, 10, 1), date(2025, 11, 1)
    periods.close(acme.pk, october, now=now)
    before = totals.month(acme.pk, october), kept_in(acme, october)
    record(correction(duration_ms=200_000), correction("call_2", duration_ms=20_000))
    settlement.settle_all(acme.pk, now=now)
    assert (totals.month(acme.pk, october), kept_in(acme, october)) == before
    found = [charges.of(each) for each in calls.all_revisions(calls.find(acme.pk, "call_1"))]
    assert [charge.billed_month for charge in found] == [october, november]
    assert rollups.late_micros(acme.pk, november) == found[1].amount_micros > 0
    # What call_2 costs less pays for what call_1 costs more; the rest waits as credit.
    month = totals.month(acme.pk, november)
    assert month.burnt_micros + month.accrued_micros == month.gross_micros == found[1].amount_micros
    assert net(acme, now) == price_of() + price_of("call_2")
    assert_sound(acme)


def kept_in(organization, month):
    cells = DailyUsage.objects.filter(organization=organization, billed_month=month)
    return list(cells.order_by("date", "mix_id").values())


def test_a_cheaper_call_counts_for_less_under_the_cap_of_its_month_and_of_no_other(priced, acme, record, settle, now):
    accounts.open(organization=acme, now=now.replace(year=2025, month=9, day=1))
    october, november = now.replace(year=2025), now.replace(year=2025, month=11)
    record(call_object(), call_object("call_2"), call_object("call_3"))
    settlement.settle_all(acme.pk, now=october)
    each = price_of()
    assert spent(acme, october) == 3 * each
    record(correction(call_status="cancelled"), correction("call_2", duration_ms=200_000))
    settlement.settle_all(acme.pk, now=october)
    dear = price_of("call_2")
    assert spent(acme, october) == each + dear
    record(correction("call_2", revision=2, duration_ms=97_000))
    settlement.settle_all(acme.pk, now=october)
    assert spent(acme, october) == 2 * each
    periods.close(acme.pk, date(2025, 10, 1), now=november)
    # Of a closed month, what is given back lowers nothing; of a dearer revision's difference, what November charged.
    record(correction("call_3", call_status="cancelled"), correction("call_2", revision=3, duration_ms=200_000))
    settlement.settle_all(acme.pk, now=november)
    assert (spent(acme, october), spent(acme, november)) == (2 * each, dear - each)
    record(correction("call_2", revision=4, call_status="cancelled"))
    settlement.settle_all(acme.pk, now=november)
    assert (spent(acme, october), spent(acme, november)) == (2 * each, 0)
    assert_sound(acme)


def spent(organization, now):
    return standing.of(organization.pk, now=now).spent_micros


def test_credit_that_paid_for_a_call_comes_back_as_credit(priced, acme, record, settle, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind="welcome", micros=10_000_000, reference="w", now=now)
    record(call_object())
    settle(acme)
    record(correction(call_status="cancelled"))
    settle(acme)
    balance = balances.balance(Account.objects.get(organization=acme), now=now)
    assert (balance.accrued_micros, balance.credit_micros) == (0, 10_000_000)
    assert Grant.objects.get(kind="correction").expires_at is None
    assert SetOff.objects.count() == 0
    assert GiveBack.objects.get().calls == 1
    assert_sound(acme)


@pytest.mark.parametrize("is_paid", [True, False], ids=["paid", "unpaid"])
def test_i08_what_an_invoice_bills_already_is_given_back_as_credit(priced, acme, record, settle, now, is_paid):
    """So what a month comes to does not depend on when the card of an interim invoice was declined."""
    record(call_object(), call_object("call_2"))
    settle(acme)
    each = price_of()
    (month,) = periods.open_months(acme.pk)
    periods.note_invoiced(acme.pk, month, 2 * each)
    if is_paid:
        collections.collect(
            organization=acme, accrued_micros=2 * each, paid_micros=2 * each, reference="interim", now=now
        )
    record(call_object("call_3"))
    settle(acme)
    record(correction(call_status="cancelled"), correction("call_2", call_status="cancelled"))
    settle(acme)
    assert SetOff.objects.aggregate(sum=Sum("micros"))["sum"] == each
    balance = balances.balance(Account.objects.get(organization=acme), now=now)
    assert (balance.credit_micros, balance.accrued_micros) == (each, 0 if is_paid else 2 * each)
    assert_sound(acme)


def test_i16_corrections_touch_no_other_organization(priced, acme, other, record, settle, now):
    record(call_object(), call_object(organization="other"))
    settle(acme)
    settle(other)
    before = kept(other), balances.balance(Account.objects.get(organization=other), now=now)
    record(correction(duration_ms=1))
    settle(acme)
    settle(other)
    assert (kept(other), balances.balance(Account.objects.get(organization=other), now=now)) == before
    assert [each.organization_id for each in CallRevision.objects.all()] == [acme.pk]
    assert calls.find(other.pk, "call_1").revision == 1


# ── What the database and the proofs refuse ───────────────────────────────────────────────────────────────────────────


def test_i12_a_priced_revision_is_kept_as_it_is(priced, acme, record):
    record(call_object())
    record(correction(duration_ms=1))
    for change in ({"given_back_micros": 5}, {"line_micros": [1]}, {"reason": "other"}):
        with pytest.raises(DatabaseError), transaction.atomic():
            CallRevision.objects.update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        CallRevision.objects.all().delete()


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ("given_back_micros = given_back_micros + 1", "gives back once"),
        ("line_micros = line_micros[:1]", "comes to another amount"),
        ("before_micros = '{\"voice\": 1}'", "another price"),
        ("given_back = '{}'", "costs less comes to another amount"),
    ],
)
def test_a_falsified_revision_is_found(priced, acme, record, settle, change, law):
    record(call_object())
    record(correction(duration_ms=1_000))
    settle(acme)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_callrevision DISABLE TRIGGER USER")
        cursor.execute(f"UPDATE usage_callrevision SET {change}")
    month = date(2026, 10, 1)
    said = [*verification.verify(acme.pk), *reconciliation.usage_differences(acme.pk, month, deep=True)]
    assert any(law in str(each) for each in said), said


# ── At once ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_f49_of_two_corrections_at_once_one_is_made_and_the_other_told(priced, acme, record):
    record(call_object())
    answers = at_once([lambda n=n: record(correction(duration_ms=1_000 * n))[0] for n in range(1, 9)])
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {"recorded": 1, "conflict": 7}
    assert {answer.revision for answer in answers} == {2}
    assert CallRevision.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_f01_the_same_correction_at_once_is_made_once(priced, acme, record):
    record(*[call_object(f"c{n}") for n in range(30)])
    batch = [correction(f"c{n}", duration_ms=5_000) for n in range(30)]
    orders = [batch, batch[::-1], batch[15:] + batch[:15], batch[::2] + batch[1::2]]
    answers = at_once([lambda items=items: record(*items) for items in orders])
    counted = Counter(answer.status for each in answers for answer in each)
    assert counted == {"recorded": 30, "duplicate": 90}
    assert CallRevision.objects.count() == 30


@pytest.mark.django_db(transaction=True)
def test_a_correction_while_the_call_gets_its_price_charges_once(acme, record, settle, now):
    load(now - timedelta(days=1000), {PLATFORM: 600_000})
    record(*[call_object(f"c{n}", products=["late_one"], duration_ms=60_000) for n in range(40)])
    load(now + timedelta(days=1), {PLATFORM: 600_000, "late_one": 70_000}, number=2, asked=now)
    later = now + timedelta(days=2)
    fixed = [correction(f"c{n}", products=[PLATFORM], duration_ms=60_000) for n in range(40)]
    at_once([lambda: ingestion.rate_unrated(now=later), *[lambda i=i: record(fixed[i]) for i in range(0, 40, 3)]])
    ingestion.rate_unrated(now=later)
    settle(acme, now=later)
    assert net(acme, now) == sum(price_of(f"c{n}") for n in range(40))
    assert_sound(acme)


def at_once(commands):
    """Run all in threads of their own that begin together, and return what they return."""
    barrier, results = threading.Barrier(len(commands)), [None] * len(commands)

    def run(position):
        barrier.wait(timeout=30)
        try:
            results[position] = commands[position]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[position]) for position in range(len(commands))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results
