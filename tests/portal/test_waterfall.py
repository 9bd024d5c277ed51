from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_portal.portal import formats
from billing_portal.portal.charts import waterfall
from billing_portal.portal.charts.waterfall import Step

amounts = st.integers(-(10**12), 10**12)


def drawn(before, changes, currency="USD"):
    steps = [Step(str(number), "", "", micros) for number, micros in enumerate(changes)]
    after = Step("after", "", "", before + sum(changes), is_total=True)
    return waterfall.of(Step("before", "", "", before, is_total=True), steps, after, currency=currency)


def place(text):
    return float(text.rstrip("%"))


@given(amounts, st.lists(amounts, max_size=7), st.sampled_from(["USD", "JPY"]))
def test_what_is_shown_adds_up_on_paper(before, changes, currency):
    shown = waterfall.shown_changes(before, changes, currency=currency)
    minor = 10 ** (6 - formats.minor_digits(currency))
    assert all(micros % minor == 0 for micros in shown)
    assert [micros for change, micros in zip(changes, shown, strict=True) if change == 0] == [0] * changes.count(0)
    picture = drawn(before, changes, currency)
    first, *_, last = picture.rows
    assert first.text == formats.money(before, currency)
    assert last.text == formats.money(before + sum(changes), currency)
    assert [row.text for row in picture.rows[1:-1]] == [formats.money_change(each, currency) for each in shown]


@given(amounts, st.lists(amounts, max_size=7))
def test_every_bar_lies_within_the_picture_and_begins_where_the_last_one_ended(before, changes):
    rows = drawn(before, changes).rows
    for row in rows:
        assert place(row.left) >= 0
        assert place(row.left) + place(row.width) <= 100.01
    for row, following in pairwise(rows[:-1]):
        edges = (place(following.left), place(following.left) + place(following.width))
        assert min(abs(place(row.joint) - edge) for edge in edges) <= 0.52  # the narrowest bar is half a percent


def test_small_changes_of_a_large_amount_are_seen_and_the_cut_is_said():
    picture = drawn(54_000_000_000, [300_000_000, -100_000_000])
    assert picture.cut == "$53,800.00"
    assert place(picture.rows[1].width) > 30
    assert [row.kind for row in picture.rows] == ["total", "more", "less", "total"]
    assert drawn(100_000_000, [60_000_000]).cut == ""


def test_steps_that_lead_elsewhere_are_an_error():
    with pytest.raises(ValueError, match="lead to 3 micros"):
        waterfall.of(Step("", "", "", 1), [Step("", "", "", 2)], Step("", "", "", 4), currency="USD")
