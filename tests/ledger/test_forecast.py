import random
from datetime import date, timedelta

import pytest

from billing_portal.ledger import forecast

TODAY = date(2026, 10, 15)
WEEK = [100, 110, 120, 130, 140, 20, 10]  # Monday to Sunday


def history(days, *, factor=lambda day: 1, today=TODAY):
    past = [today - timedelta(days=number) for number in range(1, days + 1)]
    return {day: int(WEEK[day.weekday()] * 1_000 * factor(day)) for day in past}


def test_without_a_week_of_days_there_is_no_forecast():
    assert forecast.of_month(history(6), today=TODAY, spent_micros=1) is None
    assert forecast.of_month({}, today=TODAY, spent_micros=0) is None
    assert forecast.of_month(history(7), today=TODAY, spent_micros=1) is not None


def test_weeks_that_repeat_are_foreseen_to_the_micro_weekday_by_weekday():
    days = history(56)
    spent = sum(micros for day, micros in days.items() if day.month == 10)
    rest = sum(WEEK[date(2026, 10, day).weekday()] * 1_000 for day in range(15, 32))
    found = forecast.of_month(days, today=TODAY, spent_micros=spent)
    assert found.low_micros == found.expected_micros == found.high_micros == spent + rest
    assert not found.is_rough


def test_what_today_has_brought_is_not_foreseen_again():
    days = history(56)
    before = forecast.of_month(days, today=TODAY, spent_micros=0)
    today_so_far = 50_000
    after = forecast.of_month({**days, TODAY: today_so_far}, today=TODAY, spent_micros=today_so_far)
    assert after.expected_micros == before.expected_micros
    more = WEEK[TODAY.weekday()] * 2_000
    busy = forecast.of_month({**days, TODAY: more}, today=TODAY, spent_micros=more)
    assert busy.expected_micros == before.expected_micros + more // 2


def test_on_the_last_day_only_the_day_itself_is_open():
    last = date(2026, 10, 31)
    found = forecast.of_month(history(56, today=last), today=last, spent_micros=1_000_000)
    assert [day for day, _ in found.rest] == [last]


def test_few_days_make_a_rough_and_wide_range():
    found = forecast.of_month(history(8), today=TODAY, spent_micros=0)
    assert found.is_rough
    assert found.low_micros < found.expected_micros < found.high_micros


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_low_expected_high_and_never_below_what_is_spent(seed):
    rng = random.Random(seed)
    days = history(rng.randrange(7, 75), factor=lambda day: rng.choice([0, 0.3, 1, 3]))
    found = forecast.of_month(days, today=TODAY, spent_micros=777)
    if found:
        assert 777 <= found.low_micros <= found.expected_micros <= found.high_micros


def test_the_range_holds_three_times_of_four_or_more_on_noisy_wandering_usage():
    inside = trials = 0
    for seed in range(120):
        rng = random.Random(seed)
        level = {}
        start = TODAY - timedelta(days=70)
        walk = 1.0
        for number in range(90):
            walk *= rng.lognormvariate(0, 0.03)
            level[start + timedelta(days=number)] = walk * rng.lognormvariate(0, 0.25)
        every = {day: int(WEEK[day.weekday()] * 1_000 * factor) for day, factor in level.items()}
        known = {day: micros for day, micros in every.items() if day < TODAY}
        actual = sum(micros for day, micros in every.items() if TODAY <= day <= date(2026, 10, 31))
        found = forecast.of_month(known, today=TODAY, spent_micros=0)
        trials += 1
        inside += found.low_micros <= actual <= found.high_micros
    assert 0.75 <= inside / trials < 1  # neither a guess nor a range that says nothing
