import random
from datetime import date, timedelta
from fractions import Fraction

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


def by_hand(days, today, spent_micros):
    """Forecast as the module's words say it, written without looking at how it does it."""

    def mean_before(known, day, before):
        recent = {each: micros for each, micros in known.items() if each < before}
        found = [
            micros
            for each, micros in recent.items()
            if each.weekday() == day.weekday() and each >= before - timedelta(days=28)
        ]
        return sum(found) // len(found)

    first = min((day for day, micros in days.items() if micros and day < today), default=today)
    if (today - first).days < 7:
        return None
    first = max(first, today - timedelta(days=70))
    length = (today - first).days
    known = {first + timedelta(days=number): 0 for number in range(length)}
    known.update({day: micros for day, micros in days.items() if day in known})
    last_of_month = (today.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    ahead = [today + timedelta(days=number) for number in range((last_of_month - today).days + 1)]
    rest = [mean_before(known, day, today) for day in ahead]
    rest[0] = max(rest[0] - days.get(today, 0), 0)
    horizon = max(min(len(ahead), (length - 7) // 2), 1)
    ratios = []
    for number in range(7, length - horizon + 1):
        origin = first + timedelta(days=number)
        tried = [origin + timedelta(days=step) for step in range(horizon)]
        if expected := sum(mean_before(known, day, origin) for day in tried):
            ratios.append(Fraction(sum(known[day] for day in tried), expected))
    is_rough = len(ratios) < 5
    low, high = Fraction(1, 2), Fraction(3, 2)
    if not is_rough:
        low = max(1 - (1 - min(ratios)) * 5 / 4, Fraction(0))
        high = 1 + (max(ratios) - 1) * 5 / 4
    return forecast.Forecast(
        low_micros=spent_micros + int(sum(rest) * min(low, 1)),
        expected_micros=spent_micros + sum(rest),
        high_micros=spent_micros + int(sum(rest) * max(high, 1)),
        rest=tuple(zip(ahead, rest, strict=True)),
        is_rough=is_rough,
    )


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 250, 50)], ids=str)
def test_a_second_hand_comes_to_the_same_forecast(seeds):
    rough, none = 0, 0
    for seed in seeds:
        rng = random.Random(seed)
        today = date(2026, rng.randrange(1, 13), rng.randrange(1, 29))
        length = rng.choice([rng.randrange(1, 12), rng.randrange(10, 30), rng.randrange(28, 90)])
        factors = rng.choice([[1], [0, 1], [0, 0, 0, 3], [0.3, 1, 2.5], [0.9, 1, 1.1]])
        days = history(length, factor=lambda day, rng=rng, factors=factors: rng.choice(factors), today=today)
        for day in rng.sample(sorted(days), k=length // 4):
            del days[day]  # a day without an entry had no usage
        days.update({today + timedelta(days=number): rng.randrange(90_000) for number in range(rng.randrange(3))})
        spent = rng.randrange(10**6)
        found = forecast.of_month(days, today=today, spent_micros=spent)
        assert found == by_hand(days, today, spent), seed
        none += found is None
        rough += found is not None and found.is_rough
    assert none > 1 < rough
