"""F37, F38: a bucket whose payment is disputed or went back holds what its payment still is, whatever happens when."""

from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.ledger import accounts, alerts, bucket_claims, bucket_layers, buckets, settling
from billing_portal.ledger.bucket_layers import Vessel
from billing_portal.ledger.journal import ReferenceReused
from billing_portal.ledger.models import Account, Alert, Bucket, BucketClaim, BucketEntry, Transaction
from tests.ledger.test_buckets import START, assert_lawful, books, bucket, charge_of, come_back, resolve

__all__ = ["books"]
pytestmark = pytest.mark.django_db

UNIT = 800_000


def claim(held, claimed_units, held_units=0, *, now, paid=None):
    """Let so many units' worth of the payment be gone, and so many uncertain."""
    paid = held.price_micros if paid is None else paid
    price = paid // held.entries.get(kind="bought").units
    return bucket_claims.follow(
        bucket=held,
        paid_micros=paid,
        claimed_micros=claimed_units * price,
        held_micros=held_units * price,
        reason="Refunded to your card",
        now=now,
    )


def use(organization, *references, now):
    resolve(organization, *references, now=now)
    settling.settle_all(organization.pk, now=now)


def stands(organization, held):
    """Return units left and taken out of a bucket, and what is owed, in units."""
    held.refresh_from_db()
    owed = Account.objects.get(organization=organization).accrued_micros
    return held.remaining_units, held.claimed_units, owed / UNIT


def test_f38_a_refund_in_full_takes_what_is_left_and_what_was_used_is_owed_at_its_price(books, now):
    held = bucket(books, 10)
    use(books, "c_1", "c_2", "c_3", now=now)
    assert claim(held, 10, now=now).units == 7
    assert claim(held, 10, now=now) is None
    assert stands(books, held) == (0, 7, 3)
    resolve(books, "c_4", now=now)
    settling.settle_all(books.pk, now=now)
    assert charge_of("c_4").bucket_id is None
    assert_lawful(books)


def test_i15_no_more_than_was_paid_for_a_bucket_ever_goes_back(books, now):
    """Told of more than the payment, in refunds and disputes together, the ledger takes the payment."""
    held = bucket(books, 10)
    use(books, "c_1", "c_2", "c_3", now=now)
    claim(held, 6, 16, now=now)
    assert stands(books, held) == (0, 7, 0)
    for told in (15, 10, 1_000):
        claim(held, told, told, now=now)
        assert stands(books, held) == (0, 7, 3)
    taken_back = BucketClaim.objects.get(bucket=held)
    assert (taken_back.claimed_units, taken_back.held_units, taken_back.changes) == (10, 10, 2)
    seen = bucket_claims.preview(bucket=held, paid_micros=held.price_micros, claimed_micros=99 * UNIT, now=now)
    assert (seen.units, seen.debt_micros) == (0, 0)
    assert_lawful(books)


@pytest.mark.parametrize(
    ("used", "refunded", "left", "taken", "owed"), [(2, 5, 3, 5, 0), (8, 5, 0, 2, 3), (5, 5, 0, 5, 0)]
)
def test_f38_a_partial_refund_takes_its_share_and_never_more_than_is_left(
    books, now, used, refunded, left, taken, owed
):
    held = bucket(books, 10)
    use(books, *(f"c_{number}" for number in range(used)), now=now)
    claim(held, refunded, now=now)
    assert stands(books, held) == (left, taken, owed)
    assert_lawful(books)


def test_f37_disputed_units_are_frozen_and_thawed_or_gone_once(books, now):
    held = bucket(books, 10)
    use(books, "c_1", now=now)
    assert claim(held, 0, 10, now=now).units == 9
    use(books, "c_2", now=now)
    assert charge_of("c_2").bucket_id is None
    accrued = 990_000 / UNIT
    assert stands(books, held) == (0, 9, accrued)
    assert claim(held, 0, 0, now=now).units == -9
    assert stands(books, held) == (9, 0, accrued)
    claim(held, 0, 10, now=now)
    assert claim(held, 10, 10, now=now).debt_micros == UNIT
    assert stands(books, held) == (0, 9, accrued + 1)
    assert_lawful(books)


def test_f38_a_unit_that_comes_back_to_a_refunded_bucket_is_owed_no_more(books, now):
    held = bucket(books, 10)
    use(books, "c_1", "c_2", now=now)
    claim(held, 10, now=now)
    assert stands(books, held) == (0, 8, 2)
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert stands(books, held) == (0, 9, 1)
    assert_lawful(books)


def test_f38_the_only_unit_that_comes_back_after_its_refund_is_taken_and_owed_no_more(books, now):
    held = bucket(books, 1)
    use(books, "c_1", now=now)
    claim(held, 1, now=now)
    assert stands(books, held) == (0, 0, 1)
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert stands(books, held) == (0, 1, 0)
    assert_lawful(books)


def test_a_unit_that_comes_back_leaves_a_dispute_that_was_won_alone(books, now):
    won, lost = bucket(books, 2, reference="won"), bucket(books, 2, reference="lost")
    use(books, "c_1", now=now)
    for each, claimed in ((won, 2), (won, 0), (lost, 1)):
        claim(each, 0, claimed, now=now)
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert dict(BucketClaim.objects.values_list("bucket__reference", "changes")) == {"won": 2, "lost": 1}
    assert_lawful(books)


def test_f38_what_expired_unused_is_not_owed(books, now):
    held = bucket(books, 10, expires_at=START + timedelta(hours=2))
    use(books, "c_1", now=now)
    buckets.expire(books.pk, now=START + timedelta(days=1))
    claim(held, 10, now=now)
    assert stands(books, held) == (0, 0, 1)
    assert_lawful(books)


def test_f50_a_claim_on_the_smaller_bucket_finds_its_units_in_the_larger(books, now):
    """Of ten bought first four are used, six carried: six go, four are owed; those bought with the upgrade stay."""
    small = bucket(books, 10)
    use(books, "c_1", "c_2", "c_3", "c_4", now=now)
    large = buckets.upgrade(books.pk, small.pk, units=5, price_micros=5 * 700_000, reference="u", now=now)
    assert claim(small, 10, now=now).units == 6
    assert stands(books, large) == (5, 6, 4)
    assert claim(large, 5, now=now, paid=5 * 700_000).units == 5
    assert stands(books, large) == (0, 11, 4)
    claim(small, 0, now=now)
    assert stands(books, large) == (6, 5, 0)
    assert_lawful(books)


def test_f50_a_claim_finds_the_only_unit_that_was_carried(books, now):
    small = bucket(books, 1)
    large = buckets.upgrade(books.pk, small.pk, units=1, price_micros=UNIT, reference="u", now=now)
    assert claim(small, 1, now=now).units == 1
    assert stands(books, large) == (1, 1, 0)
    assert_lawful(books)


def test_units_that_went_back_raise_no_alert_that_they_were_used(books, now):
    held = bucket(books, 10)
    use(books, "c_1", now=now)
    claim(held, 0, 10, now=now)
    alerts.check(books.pk, now=now)
    assert not Alert.objects.exists()
    claim(held, 8, 8, now=now)
    alerts.check(books.pk, now=now)
    assert list(Alert.objects.filter(is_quiet=False).values_list("percent", "base")) == [(50, 2)]


def test_a_preview_says_what_a_claim_then_does(books, now):
    held = bucket(books, 10)
    use(books, "c_1", "c_2", now=now)
    first = bucket_claims.preview(bucket=held, paid_micros=held.price_micros, claimed_micros=9 * UNIT, now=now)
    assert (first.claim.bucket, first.units, first.debt_micros) == (held, 8, UNIT)
    assert not BucketClaim.objects.exists()
    another = bucket(books, 2, reference="another")
    claim(another, 1, now=now)
    claim(held, 3, now=now)
    seen = bucket_claims.preview(bucket=held, paid_micros=held.price_micros, claimed_micros=9 * UNIT, now=now)
    done = claim(held, 9, now=now)
    assert (seen.units, seen.debt_micros) == (done.units, done.debt_micros) == (5, UNIT)
    seen = bucket_claims.preview(bucket=another, paid_micros=2 * UNIT, claimed_micros=2 * UNIT, now=now)
    assert (seen.claim.bucket, seen.units, seen.debt_micros) == (another, 1, 0)


def test_units_bought_first_are_used_first_along_a_chain_of_upgrades():
    family = [
        Vessel(id=1, bought=10, used=4, remaining=0, claimed={1: 1}),
        Vessel(id=2, bought=5, used=7, remaining=0, came_from=1, carried_in=5),
        Vessel(id=3, bought=2, used=0, remaining=5, came_from=2, carried_in=3),
    ]
    found = bucket_layers.shares(family)
    assert [found[each].used for each in (1, 2, 3)] == [9, 2, 0]
    assert [found[each].left for each in (1, 2, 3)] == [{}, {3: 3}, {3: 2}]


def test_a_claim_is_kept_as_it_was_told_and_each_change_is_entered_by_its_number(books, other, now):
    held, later = bucket(books, 3), now + timedelta(hours=1)
    assert bucket_claims.of(held) is None
    use(books, "c_1", now=now)
    claim(held, 0, 1, now=now)
    assert (bucket_claims.of(held).held_units, bucket_claims.of(held).is_whole) == (1, False)
    told = {"paid_micros": 7, "claimed_micros": 6, "held_micros": 0, "now": later}
    with pytest.raises(ReferenceReused) as reused:
        bucket_claims.follow(bucket=held, reason="Refunded", **told)
    assert (reused.value.reference, reused.value.known, reused.value.given) == ("b", 3 * UNIT, 7)
    whole = told | {"paid_micros": 3 * UNIT, "claimed_micros": 3 * UNIT}
    done = bucket_claims.follow(bucket=held, reason="r" * 300, **whole)
    kept = bucket_claims.of(held)
    assert (done.claim, done.units, done.debt_micros) == (kept, 1, UNIT)
    assert (kept.organization, kept.bucket, kept.bought_units, kept.paid_micros) == (books, held, 3, 3 * UNIT)
    assert (kept.claimed_units, kept.held_units, kept.owed_units, kept.changes) == (3, 3, 1, 2)
    assert kept.is_whole
    assert (kept.reason, kept.changed_at) == ("r" * 200, later)
    entries = kept.entries.order_by("id")
    assert list(entries.values_list("organization", "bucket", "kind", "units", "reference", "occurred_at")) == [
        (books.pk, held.pk, "claimed", -1, f"claimed:{kept.pk}:1:{held.pk}", now),
        (books.pk, held.pk, "claimed", -1, f"claimed:{kept.pk}:2:{held.pk}", later),
    ]
    posted = Transaction.objects.get(kind="claim")
    assert (posted.reference, posted.reason, posted.occurred_at) == ("claim:b:1", "r" * 200, later)
    assert set(posted.entries.values_list("book", "micros")) == {("receivable", -UNIT), ("claimed", UNIT)}
    accounts.open(organization=other, now=START)
    assert bucket_claims.of(bucket(books, 3, reference="b2")) is None
    claim(held, 0, now=later)
    assert bucket_claims.of(held) is None
    assert bucket_claims.of(held) is None


@pytest.mark.parametrize(
    ("bought", "paid", "micros", "units"),
    [(10, 5, 0, 0), (10, 5, -3, 0), (10, 5, 1, 2), (10, 5, 99, 10), (3, 10, 9, 2), (3, 10, 10, 3)],
)
def test_f38_part_of_a_payment_stands_for_whole_units_rounded_down(bought, paid, micros, units):
    assert bucket_claims.whole_units(BucketClaim(bought_units=bought, paid_micros=paid), micros) == units


def test_f38_units_are_taken_from_the_oldest_bucket_that_has_some_and_no_more_than_are_claimed(books, now):
    """Two come back to the first bucket and one to the second, after all else was carried to a third."""
    first = bucket(books, 6)
    use(books, "c_1", "c_2", "c_3", "c_4", now=now)
    second = buckets.upgrade(books.pk, first.pk, units=3, price_micros=3 * UNIT, reference="u", now=now)
    use(books, "c_5", "c_6", now=now)
    third = buckets.upgrade(books.pk, second.pk, units=1, price_micros=UNIT, reference="v", now=now)
    come_back(books, "c_1", "c_2", "c_5", now=now)
    settling.settle_all(books.pk, now=now)
    family = [first, second, third]
    assert [stands(books, each)[:2] for each in family] == [(2, 0), (1, 0), (4, 0)]
    claim(first, 0, 2, now=now)
    assert [stands(books, each)[:2] for each in family] == [(0, 2), (1, 0), (4, 0)]
    claim(first, 0, 6, now=now)
    assert [stands(books, each)[:2] for each in family] == [(0, 2), (0, 1), (4, 0)]
    claim(first, 0, 1, now=now)
    assert [stands(books, each)[:2] for each in family] == [(2, 0), (0, 1), (4, 0)]
    claim(first, 0, 0, now=now)
    assert [stands(books, each)[:2] for each in family] == [(2, 0), (1, 0), (4, 0)]
    assert_lawful(books)


def test_units_that_were_used_are_not_left_in_any_bucket():
    family = [
        Vessel(id=1, bought=4, used=3, remaining=0),
        Vessel(id=2, bought=5, used=3, remaining=1, came_from=1, carried_in=1),
        Vessel(id=3, bought=1, used=0, remaining=3, came_from=2, carried_in=2),
    ]
    found = bucket_layers.shares(family)
    assert [(found[each].used, found[each].left) for each in (1, 2, 3)] == [(4, {}), (2, {2: 1, 3: 2}), (0, {3: 1})]


def test_f38_units_that_one_claim_gives_back_are_found_by_the_claim_on_a_later_payment(books, now):
    first = bucket(books, 5)
    use(books, "c_1", "c_2", "c_3", now=now)
    larger = buckets.upgrade(books.pk, first.pk, units=5, price_micros=5 * 700_000, reference="u", now=now)
    use(books, "c_4", now=now)
    assert claim(first, 0, 1, now=now).units == 1
    use(books, "c_5", now=now)  # of the later payment, as the first one's last unit is in doubt
    assert claim(larger, 0, 5, now=now, paid=5 * 700_000).units == 4
    assert claim(first, 0, 0, now=now).units == -1
    assert stands(books, larger) == (0, 5, 0)
    assert_lawful(books)


STEPS = st.one_of(
    st.sampled_from(["use", "return", "upgrade", "expire"]),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()),
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=12))
def test_i03_f38_whatever_happens_when_units_and_debt_follow_from_where_things_stand(steps, books, now):
    """In any order: all units bought are left, used, taken out or expired, and what is owed was used and paid back."""
    with transaction.atomic():
        payments, used, bought = [bucket(books, 5)], [], 5
        for number, step in enumerate(steps):
            if step == "use":
                used.append(f"c_{number}")
                use(books, used[-1], now=now)
            elif step == "return" and used:
                come_back(books, used.pop(0), now=now)
                settling.settle_all(books.pk, now=now)
            elif step == "upgrade":
                terms = {"units": 5, "price_micros": 5 * 700_000, "reference": f"u{number}"}
                payments.append(buckets.upgrade(books.pk, payments[-1].pk, **terms, now=now))
                bought += 5
            elif step == "expire":
                buckets.expire(books.pk, now=now)
            elif isinstance(step, tuple):
                claimed, held, of_newest = step
                which = payments[-1 if of_newest else 0]
                paid = which.price_micros if which.replaces_id is None else 5 * 700_000
                claim(which, claimed, held, now=now, paid=paid)
        moved = dict.fromkeys(BucketEntry.Kind, 0)
        for kind, units in BucketEntry.objects.values_list("kind", "units"):
            moved[kind] += units
        left = sum(Bucket.objects.values_list("remaining_units", flat=True))
        assert left == bought + moved["used"] + moved["returned"] + moved["claimed"] + moved["expired"]
        for row in BucketClaim.objects.all():
            taken = -sum(row.entries.values_list("units", flat=True))
            assert 0 <= taken <= row.held_units
            assert row.owed_units <= row.claimed_units
            assert row.owed_units + taken <= max(row.held_units, row.bought_units)
        owed = sum(row.owed_units for row in BucketClaim.objects.all())
        assert owed <= -moved["used"] - moved["returned"]
        assert_lawful(books)
        transaction.set_rollback(True)
