"""The proof names every law of buckets and outcomes that is broken, whichever row was falsified."""

from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, bucket_claims, buckets, settling, verification
from tests.ledger import falsifying
from tests.ledger.test_buckets import START, YEAR, books, bucket, come_back, resolve

__all__ = ["books"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def settled(books, now):
    """Books with one of everything that concerns outcomes."""
    return settle_everything(books, now)


@pytest.fixture
def beside_others(books, make_organization, now):
    """Such books between those of two others, so that who takes another's rows for Acme's finds too many."""
    for name in ("one", "acme", "another"):
        organization = books if name == "acme" else make_organization(name)
        accounts.open(organization=organization, now=START)
        settle_everything(organization, now)
    return books


def settle_everything(organization, now):
    """Buckets that are used, upgraded and refunded, in the order of their expiry; outcomes with and without a unit."""

    def use(*references):
        resolve(organization, *references, now=now)
        settling.settle_all(organization.pk, now=now)

    def refund(held, paid_micros):
        claim = {"paid_micros": paid_micros, "claimed_micros": paid_micros, "held_micros": 0}
        bucket_claims.follow(bucket=held, **claim, reason="Refunded", now=now)

    began = START - YEAR + timedelta(days=10)
    small = bucket(organization, 3, reference="small", starts_at=began)
    use("a_1", "a_2")
    large = buckets.upgrade(organization.pk, small.pk, units=4, price_micros=3_200_000, reference="large", now=now)
    use("a_3")
    refund(small, small.price_micros)
    refund(large, 3_200_000)
    used = bucket(organization, 3, reference="used", starts_at=began + timedelta(days=1))
    use("b_1", "b_2")
    refund(used, used.price_micros)
    come_back(organization, "b_2", now=now)
    settling.settle_all(organization.pk, now=now)
    single = bucket(organization, 1, reference="single", starts_at=began + timedelta(days=2))
    use("d_1")
    refund(single, single.price_micros)
    bucket(organization, 1, reference="over", expires_at=START + timedelta(days=2))
    use("e_1")
    buckets.expire(organization.pk, now=now)
    come_back(organization, "e_1", now=now)
    bucket(organization, 2)
    use("c_1", "c_2", "c_3")
    come_back(organization, "c_1", "c_3", now=now)
    settling.settle_all(organization.pk, now=now)
    assert list(verification.verify(organization.pk)) == []
    return organization


ONE_MORE = "UPDATE ledger_bucket SET remaining_units = remaining_units + 1 WHERE remaining_units < size - claimed_units"
ONE_LESS = (
    "UPDATE ledger_bucketclaim SET held_units = held_units - 1, claimed_units = claimed_units - 1"
    " WHERE owed_units < claimed_units"
)
# By law, as in test_verification.
FALSIFICATIONS = {
    "I4 a settlement's charges are all there": [
        (
            "DELETE FROM usage_outcomecharge",
            [("charges of settlement from #", -4)]
            + [("charges of settlement from #", -2)] * 3
            + [("charges of settlement from #", -1)] * 4,
        ),
    ],
    "I4 a settlement's gross is the sum of its charges": [
        (
            "UPDATE usage_outcomecharge SET amount_micros = amount_micros + 1 WHERE amount_micros > 0",
            [("settlement from #", -1)],
        ),
        ("DELETE FROM usage_outcomecharge", [("settlement from #", 990_000)]),
    ],
    "I2 a bucket's remainder is the sum of its entries": [
        (
            ONE_MORE,
            [("bucket #", 1)] * 6,
        ),
        ("DELETE FROM ledger_bucketentry", [("bucket #", 1)]),
    ],
    "I3 a bucket's size is what came into it": [
        ("UPDATE ledger_bucket SET size = size + 1", [("bucket #", 1)] * 6),
        ("DELETE FROM ledger_bucketentry", [("bucket #", size) for size in (1, 1, 2, 3, 3, 5)]),
        (
            "UPDATE ledger_bucketentry SET units = units + 1 WHERE units > 0",
            [("bucket #", -2)] + [("bucket #", -1)] * 5,
        ),
    ],
    "F50 what one bucket carries over comes into the one in its place": [
        ("UPDATE ledger_bucketentry SET units = units - 1 WHERE kind = 'carried' AND units < 0", [("bucket #", -1)]),
        ("DELETE FROM ledger_bucketentry WHERE kind = 'carried' AND units < 0", [("bucket #", 1)]),
        ("DELETE FROM ledger_bucketentry WHERE kind = 'carried' AND units > 0", [("bucket #", -1)]),
    ],
    "I2 a bucket's claimed units are those of its entries": [
        ("UPDATE ledger_bucket SET claimed_units = claimed_units - 1 WHERE claimed_units > 0", [("bucket #", -1)] * 2),
        ("DELETE FROM ledger_bucketentry", [("bucket #", 2), ("bucket #", 4)]),
    ],
    "F38 a claim takes what it holds of a bucket, as far as it is there": [
        (ONE_LESS, [("claim on bucket #", 1)]),
        (
            ONE_MORE,
            [("claim on bucket #", -1)] * 3,
        ),
    ],
    "F38 what was used of a bucket whose payment went back is owed": [
        (
            "UPDATE ledger_bucketclaim SET owed_units = owed_units - 1 WHERE owed_units > 0",
            [("claim on bucket #", -1)] * 2 + [("debt for bucket #", 800_000)] * 3,
        ),
        ("DELETE FROM ledger_entry", [("debt for bucket #", -2_400_000)] + [("debt for bucket #", -800_000)] * 2),
        ("DELETE FROM ledger_bucketentry", [("claim on bucket #", 1)] * 2),
        ("UPDATE ledger_bucketclaim SET paid_micros = paid_micros + 1", [("debt for bucket #", -1)] * 2),
        (ONE_LESS, [("claim on bucket #", 1)]),
    ],
    "I4 a bucket's units are the outcomes that it paid for": [
        ("UPDATE ledger_bucketentry SET units = units - 1 WHERE kind = 'used'", [("bucket #", 1)] * 6),
        ("DELETE FROM ledger_bucketentry", [("bucket #", -2)] + [("bucket #", -1)] * 5),
        ("DELETE FROM usage_outcomecharge", [("bucket #", 1)] * 5 + [("bucket #", 2)]),
    ],
    "I4 a reversed outcome was given back once": [
        ("UPDATE ledger_grant SET reference = id", [("reversal #", -990_000)]),
        ("UPDATE ledger_grant SET amount_micros = amount_micros + 1", [("reversal #", 1)]),
        (
            "UPDATE usage_outcomecharge SET amount_micros = 1 WHERE kind = 'charge'",
            [("reversal #", 799_999), ("reversal #", 989_999)],
        ),
    ],
}


def test_i02_a_falsified_row_of_outcomes_is_named(beside_others):
    falsifying.assert_named(beside_others, FALSIFICATIONS)


@pytest.mark.parametrize(("months_later", "is_read"), [(0, True), (1, False)])
def test_outcomes_are_read_again_from_a_month_on(months_later, is_read, settled):
    since = START.date().replace(day=1, month=START.month + months_later)
    assert list(verification.verify(settled.pk, since=since)) == []
    charges = {"I4 a settlement's charges are all there", "I4 a settlement's gross is the sum of its charges"}
    found = falsifying.differences(settled, "DELETE FROM usage_outcomecharge", since=since)
    assert (charges <= {each.law for each in found}) is is_read
