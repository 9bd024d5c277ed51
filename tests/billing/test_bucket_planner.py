"""The planner: what a year would have cost with each bucket, to the micro."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.billing import bucket_planner
from billing_portal.billing.bucket_planner import Used
from billing_portal.billing.models import BucketOffer

TODAY = date(2027, 2, 10)
LIST = 990_000


def offer(size, price, *, outcomes=("resolution",), term_months=12):
    return BucketOffer(
        code=f"o-{size}", outcomes=list(outcomes), size=size, price_micros=price * 1_000_000, term_months=term_months
    )


def used(ago, count, outcome="resolution", list_micros=LIST):
    return Used(TODAY - timedelta(days=ago), outcome, list_micros, count)


def totals(year, *offers):
    return [
        (plan.offer and plan.offer.size, plan.buckets, plan.total_micros) for plan in bucket_planner.plans(year, offers)
    ]


def test_the_cheapest_comes_first_and_what_is_beyond_costs_its_list_price():
    year = [used(300, 700), used(100, 500)]
    assert totals(year, offer(1_000, 890), offer(5_000, 4_150)) == [
        (1_000, 1, 890_000_000 + 200 * LIST),
        (None, 0, 1_200 * LIST),
        (5_000, 1, 4_150_000_000),
    ]


def test_several_of_one_bucket_may_be_the_cheapest():
    [best, *_] = bucket_planner.plans([used(100, 1_950)], [offer(1_000, 890)])
    assert (best.buckets, best.covered_units, best.unused_units, best.beyond_micros) == (2, 1_950, 50, 0)


def test_a_bucket_pays_only_for_its_types_and_a_reversal_gives_its_unit_back():
    year = [used(90, 10), used(80, 3, "qualification", 9_990_000), used(70, -4), used(60, 6)]
    plan = next(each for each in bucket_planner.plans(year, [offer(10, 5)]) if each.offer)
    assert (plan.covered_units, plan.unused_units, plan.beyond_micros) == (10, 0, 2 * LIST + 3 * 9_990_000)


def test_what_has_another_term_is_not_compared():
    assert totals([used(1, 5)], offer(10, 1, term_months=6)) == [(None, 0, 5 * LIST)]


def test_without_usage_no_bucket_is_the_cheapest():
    assert totals([], offer(10, 1))[0] == (None, 0, 0)


def test_a_year_is_made_of_the_days_there_are():
    year, known = bucket_planner.as_a_year([used(10, 3), used(5, 2), used(0, 99)], today=TODAY)
    assert known == 10
    assert min(each.day for each in year) >= TODAY - timedelta(days=365)
    assert sum(each.count for each in year) == 36 * 5 + 2  # 36 times ten days, and the last five of one more
    assert bucket_planner.as_a_year([], today=TODAY) == ([], 0)


def test_a_whole_year_is_taken_as_it_was():
    whole = [used(ago, 1) for ago in range(1, 400)]
    year, known = bucket_planner.as_a_year(whole, today=TODAY)
    assert (known, len(year)) == (365, 365)


counts = st.lists(
    st.builds(used, st.integers(1, 365), st.integers(0, 400), st.sampled_from(["resolution", "qualification"])),
    max_size=30,
)


@given(counts, st.integers(1, 3_000), st.integers(1, 5_000))
def test_every_outcome_is_covered_or_paid_for_and_a_free_bucket_never_costs_more(year, size, price):
    plans = bucket_planner.plans(year, [offer(size, price)])
    without, with_bucket = (next(each for each in plans if bool(each.offer) is wanted) for wanted in (False, True))
    assert plans == sorted(plans, key=lambda plan: plan.total_micros)
    assert with_bucket.covered_units + with_bucket.unused_units == size * with_bucket.buckets
    assert without.total_micros == sum(each.count * each.list_micros for each in year)
    assert without.beyond_micros - with_bucket.beyond_micros == with_bucket.covered_units * LIST


@pytest.mark.parametrize("ago", [0, 366])
def test_today_and_what_is_older_than_a_year_do_not_count(ago):
    assert bucket_planner.as_a_year([used(ago, 5)], today=TODAY) == ([], 0)
