from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import pytest
from babel import Locale, numbers
from django.template import Context, Template
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_portal.billing import minor_units
from billing_portal.portal import formats

BERLIN = ZoneInfo("Europe/Berlin")
SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("micros", "currency", "text"),
    [
        (1_037_104_999, "USD", "$1,037.10"),
        (5_000, "USD", "$0.01"),
        (4_999, "USD", "$0.00"),
        (-5_005_000, "USD", "−$5.01"),
        (-4_000, "USD", "$0.00"),
        (1_500_000_000, "JPY", "¥1,500"),
        (500_000, "JPY", "¥1"),
        (0, "EUR", "€0.00"),
    ],
)
def test_money_has_the_decimals_of_its_currency_and_rounds_halves_away_from_zero(micros, currency, text):
    assert formats.money(micros, currency) == text


@pytest.mark.parametrize(
    ("micros", "currency", "text"),
    [
        (152_150, "USD", "$0.15215"),
        (70_000, "USD", "$0.07"),
        (12_000_000, "USD", "$12.00"),
        (1, "USD", "$0.000001"),
        (-113_167, "USD", "−$0.113167"),
        (1_500_000, "JPY", "¥1.5"),
        (10**18 + 1, "USD", "$1,000,000,000,000.000001"),
    ],
)
def test_exact_money_shows_every_micro_and_no_more(micros, currency, text):
    assert formats.money_exact(micros, currency) == text


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_exact_money_can_be_read_back(micros):
    text = formats.money_exact(micros, "USD").replace("−", "-").replace("$", "").replace(",", "")
    whole, fraction = text.lstrip("-").split(".")
    sign = -1 if text.startswith("-") else 1
    assert sign * (int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))) == micros


def test_money_follows_the_locale():
    assert formats.money(1_234_567_890, "EUR", locale=Locale("de")) == f"1.234,57{SPACE}€"


@pytest.mark.parametrize(
    ("micros", "step", "text"),
    [
        (40_000_000, 20_000_000, "$40"),
        (250_000, 250_000, "$0.25"),
        (1_500, 500, "$0.0015"),
        (120_000_000_000, 20_000_000_000, "$120K"),
        (2_500_000_000, 2_500_000_000, "$2.5K"),
        (0, 20_000_000, "$0"),
    ],
)
def test_axis_money_is_as_short_as_its_step_allows(micros, step, text):
    assert formats.money_axis(micros, "USD", step_micros=step) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (400, "400 ms"),
        (1_000, "1 s"),
        (59_499, "59 s"),
        (59_500, "1 m 00 s"),
        (97_000, "1 m 37 s"),
        (3_599_500, "1 h 00 m"),
        (7_500_000, "2 h 05 m"),
    ],
)
def test_duration_names_its_two_largest_units(ms, text):
    assert formats.duration(ms) == text.replace(" ", SPACE)


def test_counts_minutes_and_shares():
    assert formats.quantity(137_824) == "137,824"
    assert formats.quantity(-5) == "−5"
    assert formats.minutes(97_000) == "1.62"
    assert formats.percent(1, 3) == "33.3%"
    assert formats.percent(-1, 8) == "−12.5%"
    assert formats.percent(1, 3, digits=0) == "33%"
    assert formats.percent(1, 0) == "–"


def test_an_instant_is_shown_on_the_clock_of_the_zone():
    at = datetime(2026, 11, 21, 23, 30, 5, tzinfo=UTC)
    assert formats.moment(at, UTC) == "Nov 21, 2026, 23:30"
    assert formats.moment(at, BERLIN) == "Nov 22, 2026, 00:30"
    assert formats.moment(at, BERLIN, seconds=True) == "Nov 22, 2026, 00:30:05"
    assert formats.day(at, BERLIN) == "Nov 22, 2026"


def test_dates_are_shown_as_they_are():
    on = date(2026, 11, 1)
    assert formats.day(on, BERLIN) == "Nov 1, 2026"
    assert formats.short_day(on) == "Nov 1"
    assert formats.long_day(on) == "Sun, Nov 1, 2026"
    assert formats.month(on) == "November 2026"
    assert "21" in formats.period(on, date(2026, 11, 21))


def test_filters_format_and_show_a_dash_for_what_is_missing():
    template = Template(
        "{% load portal_formats %}"
        "{{ cost|money:currency }} {{ cost|money_exact:currency }} {{ nothing|money:currency }} "
        "{{ ms|duration }} {{ at|moment:zone }} {{ at|day }} {{ part|percent_of:8 }}"
    )
    context = {
        "cost": 152_150,
        "currency": "USD",
        "nothing": None,
        "ms": 97_000,
        "at": datetime(2026, 11, 21, 23, 30, tzinfo=UTC),
        "zone": BERLIN,
        "part": 1,
    }
    text = template.render(Context(context)).replace(SPACE, " ")
    assert text == "$0.15 $0.15215 – 1 m 37 s Nov 22, 2026, 00:30 Nov 21, 2026 12.5%"


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (9, 8, "+12.5%"),
        (7, 8, "\N{MINUS SIGN}12.5%"),
        (8, 8, "±0%"),
        (0, 0, "±0%"),
        (8, 0, "new"),
        (0, 8, "gone"),
        (16, 8, "+100.0%"),
        (1, -2, "+150.0%"),
    ],
)
def test_a_change_is_a_share_of_what_was_before(now, before, said):
    assert formats.change(now, before) == said


@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.sampled_from(["USD", "EUR", "JPY", "GBP", "BHD"]),
    st.sampled_from(["en", "de", "fr", "de_CH", "en_IN", "sv", "ar", "ja", "es"]),
    st.integers(min_value=0, max_value=6),
)
def test_amounts_are_written_as_babel_writes_them(micros, currency, locale, digits):
    amount = (Decimal(micros) / 1_000_000).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0
    wanted = formats._by_babel(currency, locale, int(amount.scaleb(digits)), digits)
    assert formats._currency(micros, currency, digits=digits, locale=Locale.parse(locale)) == wanted


@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.integers(min_value=-(10**9), max_value=10**9).filter(bool),
    st.sampled_from(["en", "en_GB", "de", "fr", "de_CH", "ar", "hi", "sv"]),
    st.integers(min_value=0, max_value=3),
)
def test_counts_minutes_and_shares_are_written_as_babel_writes_them(value, whole, locale, digits):
    known = Locale.parse(locale)

    def minus(text):
        return text.replace("-", "\N{MINUS SIGN}")

    assert formats.quantity(value, locale=known) == minus(numbers.format_decimal(value, locale=known))
    minutes = (Decimal(value) / 60_000).quantize(Decimal("0.01"), ROUND_HALF_UP) + 0
    hundredths = known.decimal_formats[None].pattern.partition(".")[0] + ".00"
    assert formats.minutes(value, locale=known) == minus(numbers.format_decimal(minutes, hundredths, locale=known))
    share = (Decimal(value) / whole).quantize(Decimal(1).scaleb(-digits - 2), ROUND_HALF_UP) + 0
    pattern = "#,##0." + "0" * digits + "%" if digits else "#,##0%"
    assert formats.percent(value, whole, digits=digits, locale=known) == minus(
        numbers.format_percent(share, pattern, locale=known)
    )


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "KRW", "TND"])
@given(minor=st.integers(-(10**12), 10**12))
@settings(max_examples=40)
def test_f42_an_amount_in_minor_units_is_read_back_from_what_is_shown(currency, minor):
    text = formats.money(minor_units.to_micros(minor, currency), currency)
    digits = "".join(each for each in text if each.isdigit())
    assert int(digits) == abs(minor)
    assert len(text.rpartition(".")[2]) == minor_units.exponent(currency) or "." not in text
    assert ("\N{MINUS SIGN}" in text) == (minor < 0)


@pytest.mark.parametrize(
    ("currency", "step", "label"), [("JPY", 500_000_000, "¥500"), ("KWD", 5_000, f"KWD{SPACE}0.005")]
)
def test_f42_an_axis_has_the_currencys_decimals(currency, step, label):
    assert formats.money_axis(step, currency, step_micros=step) == label


def test_days_from_the_first_to_the_last_and_one_day_as_itself():
    first = date(2026, 10, 1)
    assert formats.days(first, date(2026, 10, 31)) == "Oct 1, 2026 – Oct 31, 2026"
    assert formats.days(first, first) == "Oct 1, 2026"
