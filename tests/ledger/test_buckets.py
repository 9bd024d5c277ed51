"""Buckets and the settlement of outcomes: units first, then credit; given back once; never below zero or above size."""

import random
import threading
import tomllib
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.ledger import (
    accounts,
    buckets,
    credits,
    outcome_settlement,
    periods,
    settling,
    totals,
    verification,
)
from billing_portal.ledger.journal import ReferenceReused
from billing_portal.ledger.models import Bucket, BucketEntry, Grant, Settlement
from tests.billing import world
from tests.usage.outcomes.conftest import DOCUMENT, START, event, raw
from usage.models import DailyOutcomes, OutcomeCharge
from usage.outcomes import charges, recording, rules

PRICE = 990_000
YEAR = timedelta(days=365)
TICK = timedelta(microseconds=1)
TERMS = buckets.Terms(("resolution",), 10, 8_000_000, starts_at=START - YEAR / 2, expires_at=START + YEAR / 2)


@pytest.fixture
def books(db, acme, now):
    """Acme has books, and outcomes have prices."""
    world.load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=now)
    accounts.open(organization=acme, now=START)
    return acme


def bucket(organization, size=10, *, reference="b", starts_at=START - YEAR / 2, **fields):
    terms = buckets.Terms(
        outcomes=fields.pop("outcomes", ("resolution",)),
        size=size,
        price_micros=size * 800_000,
        starts_at=starts_at,
        expires_at=fields.pop("expires_at", starts_at + YEAR),
    )
    return buckets.add(organization.pk, terms, reference=reference, now=START)


def resolve(organization, *references, now, hours=1.0):
    """Let conversations be resolved, each confirmed."""
    told = []
    for reference in references:
        told.append(event("ai_answered", conversation=reference))
        told.append(event("customer_replied", hours, conversation=reference, reply_kind="affirmative"))
    recording.record([raw(each | {"organization": organization.reference}) for each in told], now=now)


def come_back(organization, *references, now, hours=50.0):
    told = [event("customer_replied", hours, conversation=each, reply_kind="needs_help") for each in references]
    recording.record([raw(each | {"organization": organization.reference}) for each in told], now=now)


def charge_of(reference):
    return OutcomeCharge.objects.get(conversation__reference=reference, kind="charge", withdrawn_at=None)


def assert_lawful(organization):
    assert list(verification.verify(organization.pk)) == []
    assert charges.differences(organization.pk) == []


def test_an_outcome_takes_a_unit_first_and_money_only_without_one(books, now):
    held = bucket(books, 2)
    resolve(books, "c_1", "c_2", "c_3", now=now)
    assert settling.settle_all(books.pk, now=now) == 3
    assert [charge_of(each).bucket_id for each in ("c_1", "c_2", "c_3")] == [held.pk, held.pk, None]
    assert totals.month(books.pk, START.date().replace(day=1)).gross == {"resolution": PRICE}
    held.refresh_from_db()
    assert (held.remaining_units, held.used_units) == (0, 2)
    assert_lawful(books)


def test_buckets_are_used_in_the_order_of_their_expiry(books, now):
    late = bucket(books, 1, reference="late", starts_at=START - timedelta(days=1))
    soon = bucket(books, 1, reference="soon")
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    assert [charge_of("c_1").bucket_id, charge_of("c_2").bucket_id] == [soon.pk, late.pk]


def test_a_bucket_pays_only_for_what_it_was_bought_for(books, now):
    bucket(books, 5, outcomes=("qualification",))
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert charge_of("c_1").amount_micros == PRICE


@pytest.mark.parametrize(("hours", "covered"), [(0.99, True), (1, False)])
def test_f50_an_outcome_of_the_last_instant_still_finds_its_unit(books, now, hours, covered):
    """The term is half-open, and judged by when the outcome was decided, however late it is settled."""
    bucket(books, 5, expires_at=START + timedelta(hours=1))
    resolve(books, "c_1", now=now, hours=hours)
    settling.settle_all(books.pk, now=now)
    assert (charge_of("c_1").amount_micros == 0) is covered


def test_after_buckets_credit_pays_and_the_rest_is_accrued(books, now):
    credits.grant(organization=books, kind="prepaid", micros=PRICE + 10_000, reference="p", now=START)
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    sums = totals.month(books.pk, START.date().replace(day=1))
    assert sums.burnt == {("prepaid", "resolution"): PRICE + 10_000}
    assert sums.accrued == {"resolution": PRICE - 10_000}
    assert_lawful(books)


def test_a_reversed_outcome_gives_its_unit_back_to_its_bucket(books, now):
    held = bucket(books, 2)
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    held.refresh_from_db()
    assert held.remaining_units == 2
    kinds = list(held.entries.order_by("id").values_list("kind", "units"))
    assert kinds == [("bought", 2), ("used", -1), ("returned", 1)]
    assert_lawful(books)


def test_f48_a_reversal_after_its_month_closed_is_a_correction_credit_once_and_the_month_stays(books, now):
    month = START.date().replace(day=1)
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    before = totals.month(books.pk, month)
    later = now + timedelta(days=40)
    periods.close(books.pk, month, now=later)
    come_back(books, "c_1", now=later, hours=24 * 40)
    settling.settle_all(books.pk, now=later)
    settling.settle_all(books.pk, now=later)
    grant = Grant.objects.get()
    assert (grant.kind, grant.amount_micros, grant.expires_at) == ("correction", PRICE, None)
    assert "c_1" in grant.reason
    assert totals.month(books.pk, month) == before
    assert_lawful(books)


def test_a_unit_of_a_bucket_that_is_over_comes_back_as_what_it_cost(books, now):
    held = bucket(books, 3, expires_at=START + timedelta(days=2))
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert buckets.expire(books.pk, now=now) == 1
    assert buckets.expire(books.pk, now=now) == 0
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    held.refresh_from_db()
    assert held.remaining_units == 0
    assert Grant.objects.get().amount_micros == 800_000
    assert held.entries.get(kind="expired").units == -2
    assert_lawful(books)


def test_a_bucket_is_added_once_for_its_reference(books):
    assert bucket(books, 10) == bucket(books, 10)
    with pytest.raises(ReferenceReused):
        bucket(books, 11)
    assert BucketEntry.objects.count() == 1


NONSENSE = [
    {"size": 0},
    {"size": -1},
    {"expires_at": START - YEAR},
    {"expires_at": START - YEAR / 2},
    {"outcomes": ()},
    {"price_micros": -1},
]


@pytest.mark.parametrize("wrong", NONSENSE, ids=str)
def test_a_bucket_without_sense_is_refused(books, wrong):
    terms = replace(TERMS, **wrong)
    with pytest.raises(buckets.TermInvalid) as refused:
        buckets.add(books.pk, terms, reference="b", now=START)
    assert refused.value.args == (terms,)
    assert not Bucket.objects.exists()


def test_a_bucket_is_kept_as_it_was_bought_even_for_nothing(books, now):
    terms = replace(TERMS, outcomes=("resolution", "qualification"), size=1, price_micros=0)
    held = buckets.add(books.pk, terms, reference="b", now=now)
    held.refresh_from_db()
    assert (held.organization, held.reference, held.replaces, held.created_at) == (books, "b", None, now)
    assert held.outcomes == ["qualification", "resolution"]
    assert (held.size, held.remaining_units, held.price_micros, held.currency) == (1, 1, 0, "USD")
    assert (held.starts_at, held.expires_at) == (terms.starts_at, terms.expires_at)
    [entry] = held.entries.all()
    assert (entry.organization, entry.kind, entry.units) == (books, "bought", 1)
    assert (entry.reference, entry.occurred_at) == (f"bought:{held.pk}", now)
    again = replace(terms, outcomes=("qualification", "resolution"))
    assert buckets.add(books.pk, again, reference="b", now=now) == held
    for changed in ({"price_micros": 1}, {"size": 2}, {"outcomes": ("resolution",)}):
        with pytest.raises(ReferenceReused) as reused:
            buckets.add(books.pk, replace(terms, **changed), reference="b", now=now)
    assert reused.value.reference == "b"
    assert reused.value.known == (1, 0, ["qualification", "resolution"])
    assert reused.value.given == (1, 0, ("resolution",))


def test_two_organizations_may_use_the_same_reference(books, other):
    accounts.open(organization=other, now=START)
    theirs, ours = bucket(other), bucket(books)
    assert theirs != ours
    terms = {"units": 1, "price_micros": 1, "reference": "u", "now": START}
    larger = buckets.upgrade(other.pk, theirs.pk, **terms)
    assert buckets.upgrade(books.pk, ours.pk, **terms | {"units": 2}) != larger


def test_units_are_used_by_expiry_then_creation_then_id_and_only_where_some_are_left(books, other, now):
    accounts.open(organization=other, now=START)
    bucket(other, reference="theirs")
    terms = {"late": (9, 0), "newer": (8, 1), "older": (8, 0), "as old": (8, 0), "empty": (7, 0), "one": (8, 2)}
    for reference, (days, seconds) in terms.items():
        made_at, expires_at = START + timedelta(seconds=seconds), START + timedelta(days=days)
        size = 1 if reference == "one" else 10
        buckets.add(books.pk, replace(TERMS, size=size, expires_at=expires_at), reference=reference, now=made_at)
    Bucket.objects.filter(reference="empty").update(remaining_units=0)
    order = [each.reference for each in buckets.spendable(accounts.open(organization=books, now=now))]
    assert order == ["older", "as old", "newer", "one", "late"]


def test_a_bucket_pays_from_its_first_instant_to_before_its_last(books):
    held = bucket(books, outcomes=("resolution", "qualification"))
    instants = [held.starts_at - TICK, held.starts_at, held.expires_at - TICK, held.expires_at]
    assert [buckets.pays_for(held, "resolution", each) for each in instants] == [False, True, True, False]
    assert not buckets.pays_for(held, "disqualification", held.starts_at)


@pytest.mark.parametrize(("price_micros", "size", "unit"), [(10, 4, 3), (9, 4, 2), (0, 3, 0)])
def test_a_unit_costs_its_part_of_the_price_rounded_half_up(books, price_micros, size, unit):
    held = buckets.add(books.pk, replace(TERMS, price_micros=price_micros, size=size), reference="b", now=START)
    assert buckets.unit_price_micros(held) == unit


@pytest.mark.parametrize("units", [-1, 11])
def test_i03_the_database_refuses_a_bucket_below_zero_or_above_its_size(books, units):
    held = bucket(books, 10)
    with pytest.raises(IntegrityError, match="bucket_holds_between"), transaction.atomic():
        Bucket.objects.filter(pk=held.pk).update(remaining_units=units)


@pytest.mark.parametrize("statement", ["UPDATE ledger_bucketentry SET units = 5", "DELETE FROM ledger_bucketentry"])
def test_i03_bucket_entries_are_kept(books, statement):
    bucket(books, 10)
    with pytest.raises(Exception, match=r"insert_only|Cannot"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_i04_a_settled_outcome_never_changes(books, now):
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    for change in ({"amount_micros": 1}, {"sequence": 9}, {"price_micros": 1}):
        with pytest.raises(Exception, match="settled or withdrawn once"), transaction.atomic():
            OutcomeCharge.objects.update(**change)


def test_i08_however_the_waiting_are_split_the_balances_are_the_same(books, make_organization, now):
    """Charges and reversals, by bucket and by money, settled whole and a few at a time."""
    balances = []
    for reference, limit in (("whole", 10_000), ("split", 3)):
        chance = random.Random(4)
        organization = make_organization(reference)
        accounts.open(organization=organization, now=START)
        bucket(organization, 12)
        credits.grant(organization=organization, kind="prepaid", micros=5 * PRICE, reference="p", now=START)
        names = [f"c_{number}" for number in range(40)]
        resolve(organization, *names[:25], now=now)
        settling.settle_all(organization.pk, now=now)
        come_back(organization, *chance.sample(names[:25], 10), now=now)
        resolve(organization, *names[25:], now=now)
        while outcome_settlement.settle(organization.pk, now=now, limit=limit):
            pass
        sums = totals.month(organization.pk, START.date().replace(day=1))
        left = list(Grant.objects.filter(organization=organization).values_list("kind", "remaining_micros"))
        held = Bucket.objects.get(organization=organization)
        balances.append((sums, sorted(left), held.remaining_units))
        assert_lawful(organization)
    assert balances[0] == balances[1]


def test_i09_the_rollup_rebuilt_is_the_one_that_was_kept(books, now):
    bucket(books, 2)
    resolve(books, "c_1", "c_2", "c_3", now=now)
    settling.settle_all(books.pk, now=now)
    come_back(books, "c_1", "c_3", now=now)
    settling.settle_all(books.pk, now=now)

    def rows():
        return sorted(
            DailyOutcomes.objects.values_list("day", "outcome", "kind", "by_bucket", "outcomes", "amount_micros")
        )

    live = rows()
    charges.rebuild(books.pk)
    assert rows() == live
    assert Counter(kind for _, _, kind, _, count, _ in live for _ in range(count)) == {"charge": 3, "reversal": 2}
    DailyOutcomes.objects.filter(kind="charge", by_bucket=False).update(amount_micros=1)
    assert charges.differences(books.pk) != []


@pytest.mark.django_db(transaction=True)
def test_i03_eight_writers_take_no_unit_twice(now, make_organization):
    """Events, reversals and settlements from eight connections: the bucket stays between nothing and its size."""
    world.load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=now)
    organization = make_organization("acme")
    accounts.open(organization=organization, now=START)
    held = bucket(organization, 60)
    failures: list[BaseException] = []

    def work(number):
        try:
            for turn in range(10):
                names = [f"c_{number}_{turn}_{place}" for place in range(3)]
                resolve(organization, *names, now=now)
                outcome_settlement.settle(organization.pk, now=now, limit=7)
                if turn % 2:
                    come_back(organization, names[0], now=now)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    settling.settle_all(organization.pk, now=now)
    held.refresh_from_db()
    # A unit that comes back after the last outcome was paid for stays.
    paid = OutcomeCharge.objects.filter(kind="charge", bucket_id=held.pk, reversals=None).count()
    assert (held.remaining_units, paid) == (60 - paid, 60 - held.remaining_units)
    assert paid > 50
    assert Settlement.objects.filter(organization=organization).count() > 8
    standing = OutcomeCharge.objects.filter(kind="charge", withdrawn_at=None, reversals=None).count()
    assert standing == 8 * 10 * 3 - 8 * 5
    assert_lawful(organization)


# ── Upgrades ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f50_an_upgrade_carries_what_is_left_and_every_unit_is_in_one_bucket(books, now):
    small = bucket(books, 3)
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    large = buckets.upgrade(books.pk, small.pk, units=4, price_micros=2_000_000, reference="u", now=now)
    small.refresh_from_db()
    assert (small.remaining_units, large.size, large.remaining_units) == (0, 5, 5)
    assert (large.starts_at, large.expires_at, large.replaces) == (small.starts_at, small.expires_at, small)
    assert large.price_micros == 2_000_000 + 800_000
    assert list(large.entries.order_by("id").values_list("kind", "units")) == [("bought", 4), ("carried", 1)]
    # One decided before the upgrade and told after it finds its unit too.
    resolve(books, *(f"d_{number}" for number in range(6)), now=now)
    settling.settle_all(books.pk, now=now)
    assert [charge_of(f"d_{number}").bucket_id for number in range(6)] == [large.pk] * 5 + [None]
    assert_lawful(books)


def test_f50_a_unit_that_comes_back_after_an_upgrade_stays_in_its_bucket_and_is_used_first(books, now):
    small = bucket(books, 2)
    resolve(books, "c_1", "c_2", now=now)
    settling.settle_all(books.pk, now=now)
    large = buckets.upgrade(books.pk, small.pk, units=3, price_micros=1, reference="u", now=now)
    come_back(books, "c_1", now=now)
    resolve(books, "c_3", "c_4", now=now)
    settling.settle_all(books.pk, now=now)
    assert [charge_of(each).bucket_id for each in ("c_3", "c_4")] == [small.pk, large.pk]
    assert_lawful(books)


def test_f50_an_upgrade_is_made_once_for_its_reference(books, now):
    small = bucket(books, 3)
    terms = {"units": 4, "price_micros": 1, "reference": "u", "now": now}
    assert buckets.upgrade(books.pk, small.pk, **terms) == buckets.upgrade(books.pk, small.pk, **terms)
    with pytest.raises(ReferenceReused) as reused:
        buckets.upgrade(books.pk, small.pk, **terms | {"units": 5})
    assert reused.value.reference == "u"
    assert (reused.value.known, reused.value.given) == ((small.pk, 4), (small.pk, 5))
    with pytest.raises(ReferenceReused):
        bucket(books, 7, reference="u")
    with pytest.raises(ReferenceReused):
        buckets.upgrade(books.pk, small.pk, **terms | {"reference": "b"})
    for wrong, told in (({"units": 0}, (0, 1)), ({"price_micros": -1}, (4, -1))):
        with pytest.raises(buckets.TermInvalid) as refused:
            buckets.upgrade(books.pk, small.pk, **terms | wrong | {"reference": "v"})
        assert refused.value.args == told
    assert Bucket.objects.count() == 2
    assert_lawful(books)


def test_f50_after_the_end_of_a_term_nothing_is_carried_and_the_new_units_have_their_time(books, now):
    small = bucket(books, 3, expires_at=START + timedelta(days=1))
    later = START + timedelta(days=3)
    large = buckets.upgrade(
        books.pk, small.pk, units=4, price_micros=1, reference="u", now=later, lasts_until=later + timedelta(days=9)
    )
    assert buckets.expire(books.pk, now=later) == 1
    large.refresh_from_db()
    assert (large.remaining_units, large.expires_at) == (4, later + timedelta(days=9))
    assert_lawful(books)


def test_f50_of_an_upgrade_all_is_entered_where_it_came_from_and_went_to(books, now):
    small = buckets.add(books.pk, replace(TERMS, size=3, price_micros=10), reference="b", now=START)
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    large = buckets.upgrade(books.pk, small.pk, units=1, price_micros=0, reference="u", now=now)
    large.refresh_from_db()
    assert (large.size, large.price_micros, large.outcomes) == (3, 7, ["resolution"])  # two thirds of ten, rounded
    assert (large.reference, large.created_at, large.organization) == ("u", now, books)
    carried = BucketEntry.objects.filter(kind="carried").order_by("id")
    assert list(carried.values_list("bucket", "units", "reference", "occurred_at")) == [
        (small.pk, -2, f"carried:to:{large.pk}", now),
        (large.pk, 2, f"carried:from:{small.pk}:{large.pk}", now),
    ]
    bought = large.entries.get(kind="bought")
    assert (bought.units, bought.reference, bought.occurred_at) == (1, f"bought:{large.pk}", now)
    emptied = buckets.upgrade(books.pk, small.pk, units=1, price_micros=5, reference="v", now=now)
    assert (emptied.size, emptied.price_micros, emptied.entries.count()) == (1, 5, 1)
    assert_lawful(books)


def test_f50_at_the_very_end_of_a_term_nothing_is_carried(books, make_organization):
    ends = TERMS.expires_at
    small = bucket(books, 3)
    late = buckets.upgrade(books.pk, small.pk, units=4, price_micros=1, reference="u", now=ends)
    assert (late.size, late.starts_at, late.expires_at) == (4, small.starts_at, ends)
    longer = {"units": 4, "price_micros": 1, "lasts_until": ends + YEAR}
    assert buckets.upgrade(books.pk, small.pk, reference="v", now=ends, **longer).expires_at == ends + YEAR
    in_time = buckets.upgrade(books.pk, small.pk, reference="w", now=ends - TICK, **longer)
    assert (in_time.size, in_time.expires_at) == (7, ends)


def test_what_is_left_at_the_end_of_a_term_is_taken_out_and_each_time_by_a_name_of_its_own(books, other, now):
    accounts.open(organization=other, now=START)
    ends = TERMS.expires_at
    last, _, theirs = bucket(books, 1), bucket(books, 2, reference="later", expires_at=ends + TICK), bucket(other, 1)
    assert buckets.expire(books.pk, now=ends - TICK) == 0
    assert buckets.expire(books.pk, now=ends) == 1
    entry = BucketEntry.objects.get(kind="expired")
    assert (entry.bucket, entry.units, entry.occurred_at) == (last, -1, ends)
    assert entry.reference == f"expired:{last.pk}:1"
    last.refresh_from_db()
    theirs.refresh_from_db()
    assert (last.remaining_units, theirs.remaining_units) == (0, 1)
    # A unit that came back meanwhile expires too.
    Bucket.objects.filter(pk=last.pk).update(remaining_units=1)
    BucketEntry.objects.create(
        organization=books, bucket=last, kind="returned", units=1, reference="r", occurred_at=ends
    )
    assert buckets.expire(books.pk, now=ends + TICK) == 2
    names = BucketEntry.objects.filter(kind="expired", bucket=last).order_by("id").values_list("reference", flat=True)
    assert list(names) == [f"expired:{last.pk}:1", f"expired:{last.pk}:3"]


def test_what_a_settlement_took_and_gave_back_is_entered_by_its_reference(books, now):
    idle, busy = bucket(books, 5, reference="idle"), bucket(books, 5, reference="busy")
    busy.remaining_units = 4
    buckets.move([idle, busy], "settle:1-3", Counter({busy.pk: 2}), Counter({busy.pk: 1}), now=now)
    moved = BucketEntry.objects.exclude(kind="bought").order_by("id")
    assert list(moved.values_list("bucket", "kind", "units", "reference", "occurred_at")) == [
        (busy.pk, "used", -2, f"used:settle:1-3:{busy.pk}", now),
        (busy.pk, "returned", 1, f"returned:settle:1-3:{busy.pk}", now),
    ]
    busy.refresh_from_db()
    assert busy.remaining_units == 4
    for used, returned, left in ((1, 0, 3), (0, 1, 4)):
        busy.remaining_units = left
        buckets.move([busy], f"{used}", Counter({busy.pk: used}), Counter({busy.pk: returned}), now=now)
        busy.refresh_from_db()
        assert busy.remaining_units == left


def test_i16_a_bucket_of_another_organization_is_not_upgraded(books, make_organization, now):
    stranger = make_organization("stranger")
    accounts.open(organization=stranger, now=START)
    theirs = bucket(stranger, 3)
    with pytest.raises(Bucket.DoesNotExist):
        buckets.upgrade(books.pk, theirs.pk, units=4, price_micros=1, reference="u", now=now)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.sampled_from(["resolve", "return", "settle", "upgrade", "expire"]), min_size=4, max_size=16))
def test_f50_however_upgrades_and_outcomes_alternate_units_are_neither_lost_nor_doubled(steps, books, now):
    """Conservation: bought = left + used + expired over all buckets, and each upgrade only adds what it sold."""
    with transaction.atomic():
        newest, resolved, bought = bucket(books, 5), [], 5
        for number, step in enumerate(steps):
            if step == "resolve":
                resolved.append(f"c_{number}")
                resolve(books, resolved[-1], now=now)
            elif step == "return" and resolved:
                come_back(books, resolved.pop(0), now=now)
            elif step == "upgrade":
                newest = buckets.upgrade(books.pk, newest.pk, units=2, price_micros=7, reference=f"u{number}", now=now)
                bought += 2
            elif step == "expire":
                buckets.expire(books.pk, now=now)
            else:
                outcome_settlement.settle(books.pk, now=now, limit=2)
        settling.settle_all(books.pk, now=now)
        paid = OutcomeCharge.objects.filter(kind="charge", bucket_id__isnull=False, reversals=None).count()
        left = sum(Bucket.objects.values_list("remaining_units", flat=True))
        assert left + paid == bought
        assert_lawful(books)
        transaction.set_rollback(True)
