"""The burn curve: what was left, an even pace, and the range ahead, within the plot."""

import re
from datetime import date, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing_portal.ledger.runway import Runway
from billing_portal.portal.charts import bucket_chart

START = date(2027, 1, 1)


def chart(moved, *, size=100, days=100, day=10, runway=None):
    return bucket_chart.of_term(
        {START + timedelta(days=number): units for number, units in moved.items()},
        noun="resolutions",
        size=size,
        starts_on=START,
        ends_on=START + timedelta(days=days),
        today=START + timedelta(days=day),
        runway=runway,
    )


def runway(pace, fastest, slowest):
    return Runway(None, None, None, 0, Fraction(pace), Fraction(fastest), Fraction(slowest))


def test_each_day_says_what_was_left_beside_an_even_pace():
    drawn = chart({0: -10, 3: -20, 5: 5})
    assert [column.left_units for column in drawn.columns] == [90, 90, 90, 70, 70, 75, 75, 75, 75, 75, 75]
    assert [column.even_units for column in drawn.columns[:3]] == [99, 98, 97]
    assert drawn.columns[3].summary == "Mon, Jan 4, 2027: 70 resolutions left, 96 at an even pace"
    assert drawn.summary == "75 of 100 resolutions left, 89 at an even pace"
    assert drawn.even == "M0 0L100 200"
    assert drawn.edge.startswith("M0 0H1V20H2V20")


def test_many_days_are_drawn_by_the_week_and_end_today():
    drawn = chart({200: -1}, days=365, day=300)
    assert len(drawn.columns) == 43
    assert drawn.columns[-1].label == "Thu, Oct 28, 2027"
    assert drawn.columns[28].left_units == 99
    assert 6 <= len(drawn.ticks) <= 12


def test_the_way_ahead_ends_where_the_units_or_the_term_end():
    drawn = chart({0: -20}, day=9, runway=runway(4, 8, 0))
    assert drawn.ahead == "M10 40L30 200"
    assert drawn.band.startswith("M10 40L20 200L100 200L100 40L10 40")


def test_a_bucket_before_its_term_and_one_long_over_are_drawn_too():
    assert chart({}, day=-5).columns == ()
    over = chart({99: -100}, day=500)
    assert over.columns[-1].left_units == 0
    assert over.summary == "0 of 100 resolutions left, 0 at an even pace"


paces = st.lists(st.fractions(0, 50), min_size=3, max_size=3).map(sorted)


@given(
    st.dictionaries(st.integers(0, 400), st.integers(-5, 0), max_size=15),
    st.integers(1, 400),
    st.integers(-3, 450),
    paces,
)
def test_everything_stays_within_the_plot(moved, days, day, pace):
    drawn = chart(moved, size=100, days=days, day=day, runway=runway(pace[1], pace[2], pace[0]))
    for path in (drawn.ahead, drawn.band):
        for x, y in re.findall(r"([\d.]+) ([\d.]+)", path):
            assert 0 <= float(x) <= days
            assert 0 <= float(y) <= drawn.plot_height
