import itertools
import math
import re
from datetime import date, timedelta

import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st

from billing_portal.portal import formats
from billing_portal.portal.charts import frame, share_bar, sparkline, stacked
from usage.models import Component

FIRST = date(2026, 11, 1)


def draw(amounts, *, days=30, currency="USD", **options):
    return stacked.by_day(
        amounts, starts_on=FIRST, ends_on=FIRST + timedelta(days=days - 1), currency=currency, **options
    )


def number(text):
    return float(text.removesuffix("%"))


def test_components_are_the_priced_ones_in_their_order():
    assert dict(frame.COMPONENTS) == dict(Component.choices)


def test_every_day_has_a_column_and_only_series_with_money_are_shown():
    chart = draw({(FIRST, "llm"): 2_000_000, (FIRST + timedelta(days=3), "voice"): 1_000_000})
    assert len(chart.columns) == 30
    assert [part.key for part in chart.series] == ["voice", "llm"]
    assert chart.columns[0].amounts == (0, 2_000_000)
    assert chart.columns[1].bars == ()
    assert chart.micros == 3_000_000
    assert chart.columns[0].summary == "Sun, Nov 1, 2026: $2.00. Language model $2.00"


def test_a_chart_without_a_currency_counts():
    chart = draw({(FIRST, "llm"): 1_234, (FIRST, "voice"): 2}, currency="")
    assert [part.text for part in chart.series] == ["2", "1,234"]
    assert chart.text == chart.columns[0].total == "1,236"
    assert [line.label for line in chart.gridlines] == ["0", "500", "1,000", "1,500"]
    assert chart.columns[0].summary == "Sun, Nov 1, 2026: 1,236. Voice engine 2, Language model 1,234"


# How long input takes says how busy the machine is.
@of_hypothesis(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.tuples(
            st.integers(0, 129).map(lambda days: FIRST + timedelta(days=days)),
            st.sampled_from([key for key, _ in frame.COMPONENTS]),
        ),
        st.integers(0, 10**12),
        max_size=200,
    ),
    st.integers(130, 2_000),
)
def test_no_money_is_lost_and_everything_stays_inside_the_plot(amounts, days):
    chart = draw(amounts, days=days)
    assert len(chart.columns) <= stacked.MAX_COLUMNS
    assert chart.micros == sum(amounts.values()) == sum(part.micros for part in chart.series)
    assert chart.columns[-1].ends_on == FIRST + timedelta(days=days - 1)
    for column in chart.columns:
        assert sum(column.amounts) == column.micros
        for bar in column.bars:
            assert bar.y >= -stacked._MIN_BAR_PX * 7
            assert bar.y + bar.height <= chart.plot_height + 0.01
            assert number(bar.x) >= 0
            assert number(bar.x) + number(bar.width) <= 100.01
        assert column.starts_on <= column.ends_on


def test_segments_of_a_column_do_not_overlap_and_are_as_high_as_their_share():
    chart = draw({(FIRST, "platform"): 10_000_000, (FIRST, "voice"): 30_000_000})
    lower, upper = chart.columns[0].bars
    assert upper.y + upper.height < lower.y
    assert upper.height + 1.5 == pytest.approx(3 * (lower.height + 1.5), abs=0.05)
    assert lower.y + lower.height == pytest.approx(chart.plot_height)


def test_a_day_outside_and_an_unknown_series_are_refused():
    with pytest.raises(ValueError, match="outside"):
        draw({(FIRST - timedelta(days=1), "llm"): 1})
    with pytest.raises(ValueError, match="outside"):
        draw({(FIRST + timedelta(days=30), "llm"): 1})
    with pytest.raises(ValueError, match="no series"):
        draw({(FIRST, "seats"): 1})
    with pytest.raises(ValueError, match="before"):
        stacked.by_day({}, starts_on=FIRST, ends_on=FIRST - timedelta(days=1), currency="USD")


def test_a_negative_amount_counts_and_has_no_bar():
    chart = draw({(FIRST, "llm"): -2_000_000, (FIRST, "voice"): 5_000_000})
    assert [bar.css for bar in chart.columns[0].bars] == ["series-voice"]
    assert chart.micros == 3_000_000


def test_an_empty_chart_still_has_axes():
    chart = draw({})
    assert chart.is_empty
    assert [line.label for line in chart.gridlines] == ["$0", "$1"]


def test_more_days_than_columns_become_weeks():
    chart = draw({(FIRST + timedelta(days=8), "llm"): 1_000_000}, days=120)
    assert chart.days_per_column == 7
    assert chart.columns[1].micros == 1_000_000
    assert chart.columns[1].label == formats.period(date(2026, 11, 8), date(2026, 11, 14))


def test_columns_link_to_their_days():
    chart = draw({}, days=2, href=lambda first, last: f"?from={first}&to={last}")
    assert chart.columns[1].href == "?from=2026-11-02&to=2026-11-02"


@pytest.mark.parametrize("days", [1, 7, 12, 13, 30, 31, 61, 92, 100])
def test_labels_are_few_enough_to_be_read(days):
    ticks = [column.tick for column in draw({}, days=days).columns]
    assert ticks[0] == "narrow"
    assert 1 <= ticks.count("narrow") <= 5
    assert len([tick for tick in ticks if tick]) <= 12


@given(st.integers(1, 10**18))
def test_ticks_are_round_and_cover_the_highest_column(highest):
    step = frame.tick_step(highest, smallest=1)
    assert highest <= 4 * step
    assert str(step).rstrip("0") in {"1", "2", "25", "5"}


@given(st.lists(st.integers(0, 10**15), max_size=7))
def test_shares_add_up_to_the_whole(amounts):
    rows = share_bar.shares([(f"key{index}", "", micros) for index, micros in enumerate(amounts)])
    assert sum(row.micros for row in rows) == sum(amounts)
    if rows:
        assert sum(round(number(row.percent) * 10) for row in rows) == 1_000
        assert sum(number(row.width) for row in rows) == pytest.approx(100, abs=0.01)
        assert [row.micros for row in rows] == sorted((row.micros for row in rows), reverse=True)


def test_percentages_add_up_where_rounding_each_would_not():
    assert share_bar.percentages([1, 1, 1]) == ["33.4%", "33.3%", "33.3%"]
    assert share_bar.percentages([2, -1, 0]) == ["100.0%", "0.0%", "0.0%"]
    assert share_bar.percentages([0, 0]) == ["–", "–"]
    assert share_bar.percentages([]) == []


@given(st.lists(st.integers(-5, 10**15), max_size=40))
def test_a_sparkline_stays_inside_its_box(values):
    line = sparkline.of(values, width=96, height=32)
    for x, y in re.findall(r"([\d.]+) ([\d.]+)", line.line):
        assert 0 <= float(x) <= 96
        assert 0 <= float(y) <= 32
    assert bool(line.line) == bool(values)


# ── The colors of the series, as people with each kind of color vision see them ──

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# at severity 1.0.
VISION = {
    "common": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
LEAST_DIFFERENCE = 10  # in Oklab times 100; 2 is just noticeable side by side


def series_colors(theme):
    css = (settings.BASE_DIR / "static/css/tokens.css").read_text()
    pairs = re.findall(r"--series-([\w-]+): light-dark\(oklch\(([^)]+)\), oklch\(([^)]+)\)\)", css)
    return {name: tuple(map(float, (light if theme == "light" else dark).split())) for name, light, dark in pairs}


def linear_rgb(lightness, chroma, hue):
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def oklab(rgb):
    red, green, blue = (min(1.0, max(0.0, part)) for part in rgb)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_series_are_told_apart_with_any_color_vision(theme, vision):
    colors = series_colors(theme)
    assert set(colors) == {key.replace("_", "-") for key, _ in frame.COMPONENTS}
    seen = {
        name: oklab(sum(w * part for w, part in zip(row, linear_rgb(*color), strict=True)) for row in VISION[vision])
        for name, color in colors.items()
    }
    for one, other in itertools.combinations(seen, 2):
        assert 100 * math.dist(seen[one], seen[other]) >= LEAST_DIFFERENCE, f"{one} and {other}"


def test_days_compared_with_stand_beside_their_column_and_none_is_lost():
    starts_on = date(2026, 11, 1)
    amounts = {(starts_on, "llm"): 4_000_000, (starts_on + timedelta(days=1), "llm"): 1_000_000}
    before = [8_000_000, 0, 3_000_000]
    ends_on = starts_on + timedelta(days=1)
    chart = stacked.by_day(amounts, starts_on=starts_on, ends_on=ends_on, currency="USD", before=before)
    marks = [column.before for column in chart.columns]
    assert [mark.micros for mark in marks] == [8_000_000, 3_000_000]
    assert chart.before_micros == sum(before)
    assert marks[0].y == 0  # the axis has room for the highest of both
    assert "Before: $8.00" in chart.columns[0].summary
    without = stacked.by_day(amounts, starts_on=starts_on, ends_on=ends_on, currency="USD")
    assert without.before_micros is None
    assert {column.before for column in without.columns} == {None}


def test_weeks_are_compared_with_weeks():
    starts_on = date(2026, 1, 1)
    chart = stacked.by_day(
        {}, starts_on=starts_on, ends_on=starts_on + timedelta(days=199), currency="USD", before=[1] * 200
    )
    assert chart.days_per_column == 7
    assert [column.before.micros for column in chart.columns] == [7] * 28 + [4]
