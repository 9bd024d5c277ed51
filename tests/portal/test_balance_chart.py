import re
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.portal.charts import balance_chart

FIRST = date(2026, 11, 1)
SERIES = [("prepaid", "Prepaid credit"), ("welcome", "Welcome credit")]


def draw(amounts, *, days=10):
    return balance_chart.by_day(
        amounts, starts_on=FIRST, ends_on=FIRST + timedelta(days=days - 1), currency="USD", series=SERIES
    )


def test_each_day_says_what_was_there_at_its_end():
    chart = draw({(FIRST, "welcome"): 10_000_000, (FIRST, "prepaid"): 5_000_000, (FIRST + timedelta(1), "prepaid"): 1})
    assert chart.columns[0].summary == "Sun, Nov 1, 2026: $15.00. Prepaid credit $5.00, Welcome credit $10.00"
    assert chart.columns[0].amounts == (5_000_000, 10_000_000)
    assert chart.columns[2].micros == 0
    assert [part.key for part in chart.series] == ["prepaid", "welcome"]
    assert chart.summary.startswith("$0.00 on Nov 10")


def test_without_credit_the_chart_is_empty():
    assert draw({}).is_empty
    assert draw({}).areas == ()


@pytest.mark.parametrize("days", [1, 7, 90])
@given(data=st.data())
def test_areas_lie_on_one_another_and_inside_the_plot(days, data):
    amount = st.integers(0, 10**13)
    amounts = {(FIRST + timedelta(days=index), key): data.draw(amount) for index in range(days) for key, _ in SERIES}
    chart = draw(amounts, days=days)
    assert len(chart.columns) == days
    for area in chart.areas:
        heights = [float(number) for number in re.findall(r"V([\d.e+-]+)", area.path)]
        assert all(0 <= height <= chart.plot_height for height in heights)
        assert len(heights) == 2 * days
        assert max(int(x) for x in re.findall(r"H(\d+)", area.path)) == days
    if len(chart.areas) == 2:
        above_of_lower = re.findall(r"V([\d.e+-]+)", chart.areas[0].path)[:days]
        below_of_upper = re.findall(r"V([\d.e+-]+)", chart.areas[1].path)[days:]
        assert above_of_lower == below_of_upper[::-1]
