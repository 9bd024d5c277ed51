"""Alerts on buckets: each threshold of each bucket is told once, and a lost check is made up for."""

from datetime import timedelta

import pytest

from accounts.models import Letter
from billing_portal.ledger import accounts, alerts, bucket_claims, buckets, settling, tasks
from billing_portal.ledger.alerts import Terms
from billing_portal.ledger.models import Alert, AlertSettings, Bucket
from tests.ledger.test_buckets import START, YEAR, books, bucket, come_back, resolve

__all__ = ["books"]
pytestmark = pytest.mark.django_db


def use(organization, *references, now):
    resolve(organization, *references, now=now)
    settling.settle_all(organization.pk, now=now)


def told(organization):
    found = Alert.objects.filter(organization=organization, is_quiet=False, gauge="bucket")
    return list(found.order_by("id").values_list("period", "percent"))


def test_half_most_and_all_of_a_bucket_are_told_once_each(books, alice, now):
    held = bucket(books, 10)
    names = [f"c_{number}" for number in range(11)]
    percents = {4: [], 5: [50], 7: [50], 8: [50, 80], 9: [50, 80, 90], 10: [50, 80, 90, 100], 11: [50, 80, 90, 100]}
    used = 0
    for count, expected in percents.items():
        use(books, *names[used:count], now=now)
        used = count
        alerts.check(books.pk, now=now)
        assert alerts.check(books.pk, now=now) == []  # I6: again changes nothing
        assert told(books) == [(f"bucket:{held.pk}", percent) for percent in expected]
    letter = Letter.objects.order_by("id")[1]
    assert letter.subject == "80% of the bucket is used, 2 resolutions left: Acme Robotics"
    assert "has used 8 of 10 resolutions" in letter.text
    assert "100% of the bucket is used, 0 resolutions left" in Letter.objects.latest("id").subject
    assert f"/buckets/{held.public_id}/" in letter.text
    assert Letter.objects.count() == 4


def test_each_bucket_is_measured_by_itself_and_one_that_is_over_not_at_all(books, now):
    over = bucket(books, 1, reference="over", expires_at=START + timedelta(hours=2))
    late = bucket(books, 2, reference="late", starts_at=START - timedelta(days=1))
    soon = bucket(books, 2, reference="soon", expires_at=now + timedelta(days=1))
    use(books, "c_1", "c_2", "c_3", "c_4", now=now)
    alerts.check(books.pk, now=now)
    assert told(books) == [(f"bucket:{soon.pk}", 100), (f"bucket:{late.pk}", 50)]
    assert not Alert.objects.filter(period=f"bucket:{over.pk}").exists()


def test_a_unit_that_comes_back_unsays_nothing_and_says_nothing_twice(books, now):
    bucket(books, 2)
    use(books, "c_1", now=now)
    alerts.check(books.pk, now=now)
    come_back(books, "c_1", now=now)
    use(books, "c_2", now=now)
    assert alerts.check(books.pk, now=now) == []


def test_f50_a_bucket_in_whose_place_a_larger_stands_is_told_of_no_more(books, now):
    small = bucket(books, 2)
    large = buckets.upgrade(books.pk, small.pk, units=2, price_micros=1, reference="u", now=now)
    use(books, "c_1", "c_2", now=now)
    alerts.check(books.pk, now=now)
    assert told(books) == [(f"bucket:{large.pk}", 50)]


def test_a_bucket_that_is_empty_for_a_payment_that_went_back_is_not_told_of(books, now):
    """One unit is used, the other gone with its payment: of that a letter of its own has told."""
    held = bucket(books, 2)
    use(books, "c_1", now=now)
    alerts.check(books.pk, now=now)
    claimed = {"paid_micros": held.price_micros, "claimed_micros": held.price_micros // 2, "held_micros": 0}
    bucket_claims.follow(bucket=held, reason="Refunded", now=now, **claimed)
    held.refresh_from_db()
    assert (held.claimed_units, held.remaining_units) == (1, 0)
    assert alerts.check(books.pk, now=now) == []


def test_i16_another_organizations_buckets_are_neither_told_nor_checked(books, other, now):
    accounts.open(organization=other, now=START)
    bucket(books, 2)
    bucket(other, 2)
    use(other, "c_1", now=now)
    assert {*alerts.due(limit=10)} == {books.pk, other.pk}
    assert alerts.check(books.pk, now=now) == []
    assert alerts.due(limit=10) == [other.pk]
    assert len(alerts.check(other.pk, now=now)) == 1
    assert not Alert.objects.filter(organization=books).exists()


def test_the_thresholds_are_the_customers(books, now):
    bucket(books, 4)
    alerts.set(books.pk, Terms(bucket_percents=(75,)), by=None, now=now)
    use(books, "c_1", "c_2", now=now)
    assert alerts.check(books.pk, now=now) == []
    use(books, "c_3", now=now)
    assert [alert.percent for alert in alerts.check(books.pk, now=now)] == [75]


def test_f20_a_lost_check_of_a_bucket_is_made_by_the_sweep(books, now, monkeypatch):
    """Outcomes that a bucket pays for change no month's spend: the sweep knows them by the bucket."""
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    held = bucket(books, 2, starts_at=now - YEAR / 2)
    assert alerts.due(limit=10) == [books.pk]
    tasks.sweep_alerts()
    assert alerts.due(limit=10) == []
    Bucket.objects.filter(pk=held.pk).update(remaining_units=1)
    assert alerts.due(limit=10) == [books.pk]
    tasks.sweep_alerts()
    assert told(books) == [(f"bucket:{held.pk}", 50)]
    assert alerts.due(limit=10) == []


def test_a_bucket_of_which_a_single_unit_went_back_is_told_of_while_others_are_left(books, now):
    held = bucket(books, 3)
    use(books, "c_1", now=now)
    Bucket.objects.filter(pk=held.pk).update(claimed_units=1, remaining_units=1)
    assert [(alert.percent, alert.used, alert.base) for alert in alerts.check(books.pk, now=now)] == [(50, 1, 2)]


def test_a_bucket_of_which_nothing_is_left_but_what_went_back_is_told_of_no_more(books, now):
    held = bucket(books, 4)
    use(books, "c_1", "c_2", "c_3", now=now)
    assert [alert.percent for alert in alerts.check(books.pk, now=now)] == [50]
    Bucket.objects.filter(pk=held.pk).update(claimed_units=1, remaining_units=0)
    assert alerts.check(books.pk, now=now) == []


def test_i16_another_organizations_buckets_stay_unchecked(books, other, now):
    accounts.open(organization=other, now=START)
    bucket(books, 2)
    theirs = bucket(other, 2)
    alerts.check(books.pk, now=now)
    theirs.refresh_from_db()
    assert theirs.checked_units is None


def test_of_buckets_that_end_together_the_first_is_told_of_first(books, now):
    first, second = bucket(books, 1), bucket(books, 1, reference="second")
    Bucket.objects.filter(pk=first.pk).update(remaining_units=0)  # which moves its row to the end
    Bucket.objects.filter(pk=second.pk).update(remaining_units=0)
    Bucket.objects.filter(pk=first.pk).update(checked_units=1)
    assert [alert.period for alert in alerts.check(books.pk, now=now)] == [
        f"bucket:{each.pk}" for each in (first, second)
    ]


def test_whose_settings_are_older_than_buckets_is_told_of_the_usual_parts(books, now):
    fields = {"spend_percents": [50], "credit_percents": [50], "recipients": [], "set_at": now}
    AlertSettings.objects.create(organization=books, **fields)
    assert alerts.terms_of(books.pk) == Terms(spend_percents=(50,), credit_percents=(50,))
    assert alerts.terms_of(books.pk).bucket_percents == (50, 80, 90, 100)
