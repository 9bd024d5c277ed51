"""Credit on the invoice: cumulative rounding, one line a kind and component."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from billing_portal.billing import credit_lines, minor_units
from billing_portal.ledger.models import Grant
from usage.models import Billable

burnt = st.dictionaries(
    st.tuples(st.sampled_from(Grant.Kind.values), st.sampled_from(Billable.values)),
    st.integers(min_value=1, max_value=10**12),
)
currencies = st.sampled_from(["USD", "JPY", "KWD"])


@given(burnt=burnt, currency=currencies)
def test_i11_the_lines_of_a_component_sum_to_one_rounding(burnt: dict[tuple[str, str], int], currency: str) -> None:
    micros: dict[str, int] = defaultdict(int)
    minor: dict[str, int] = defaultdict(int)
    for credit in credit_lines.round_cumulatively(burnt, currency):
        micros[credit.component] += credit.micros
        minor[credit.component] += credit.amount_minor
    assert micros == {c: sum(m for (_, of), m in burnt.items() if of == c) for c in {of for _, of in burnt}}
    assert minor == {c: minor_units.from_micros(m, currency) for c, m in micros.items()}


@given(burnt=burnt, currency=currencies)
def test_full_cover_gives_exactly_zero(burnt: dict[tuple[str, str], int], currency: str) -> None:
    gross: dict[str, int] = defaultdict(int)
    for (_, component), micros in burnt.items():
        gross[component] += micros
    usage_lines = sum(minor_units.from_micros(micros, currency) for micros in gross.values())
    taken_off = sum(credit.amount_minor for credit in credit_lines.round_cumulatively(burnt, currency))
    assert usage_lines - taken_off == 0


@given(burnt=burnt, currency=currencies)
def test_no_line_is_negative_and_none_is_lost(burnt: dict[tuple[str, str], int], currency: str) -> None:
    lines = credit_lines.round_cumulatively(burnt, currency)
    assert all(credit.amount_minor >= 0 for credit in lines)
    assert {(credit.grant_kind, credit.component): credit.micros for credit in lines} == burnt


@given(burnt=burnt, currency=currencies, kind=st.sampled_from(Grant.Kind.values), more=st.integers(1, 10**9))
def test_more_credit_never_takes_off_less(
    burnt: dict[tuple[str, str], int], currency: str, kind: str, more: int
) -> None:
    before = sum(credit.amount_minor for credit in credit_lines.round_cumulatively(burnt, currency))
    dearer = {**burnt, (kind, "llm"): burnt.get((kind, "llm"), 0) + more}
    assert sum(credit.amount_minor for credit in credit_lines.round_cumulatively(dearer, currency)) >= before


def test_kinds_are_rounded_in_burn_order() -> None:
    half_a_cent = 5_000
    lines = credit_lines.round_cumulatively({("prepaid", "llm"): half_a_cent, ("welcome", "llm"): half_a_cent}, "USD")
    assert [(line.grant_kind, line.amount_minor) for line in lines] == [("welcome", 1), ("prepaid", 0)]
