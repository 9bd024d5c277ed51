"""The pure part of settlement: which credit pays for which line."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from billing_portal.ledger.allocation import allocate

components = st.sampled_from(["llm", "voice", "telephony"])
lines = st.lists(st.tuples(components, st.integers(0, 10**9)), max_size=40)
remainders = st.lists(st.integers(0, 10**9), max_size=5)


@given(lines, remainders)
def test_i04_every_line_is_funded_exactly_once(lines, remainders):
    result = allocate(lines, remainders)
    for component in {component for component, _ in lines}:
        burnt = sum(micros for (_, name), micros in result.burnt.items() if name == component)
        assert result.gross[component] == burnt + result.accrued[component]


@given(lines, remainders)
def test_i03_no_grant_gives_more_than_it_has(lines, remainders):
    taken = Counter()
    for (position, _), micros in allocate(lines, remainders).burnt.items():
        assert micros > 0
        taken[position] += micros
    assert all(taken[position] <= left for position, left in enumerate(remainders))


@given(lines, remainders)
def test_i05_a_grant_is_touched_only_when_those_before_it_are_empty(lines, remainders):
    taken = Counter()
    for (position, _), micros in allocate(lines, remainders).burnt.items():
        taken[position] += micros
    for position in taken:
        assert all(taken[earlier] == remainders[earlier] for earlier in range(position))


@given(lines, remainders, st.integers(0, 40))
def test_i08_splitting_a_batch_changes_nothing(lines, remainders, cut):
    whole = allocate(lines, remainders)
    first = allocate(lines[:cut], remainders)
    left = [
        micros - sum(part for (at, _), part in first.burnt.items() if at == position)
        for position, micros in enumerate(remainders)
    ]
    second = allocate(lines[cut:], left)
    assert whole.gross == first.gross + second.gross
    assert whole.accrued == first.accrued + second.accrued
    assert whole.burnt == first.burnt + second.burnt


@given(lines)
def test_without_credit_everything_is_accrued(lines):
    result = allocate(lines, [])
    assert result.accrued == +result.gross
    assert not result.burnt


@given(lines, remainders)
def test_i08_knowing_what_the_lines_come_to_changes_nothing(lines, remainders):
    gross = Counter()
    for component, micros in lines:
        gross[component] += micros
    known, unknown = allocate(lines, remainders, gross=+gross), allocate(lines, remainders)
    assert (+known.gross, known.burnt, +known.accrued) == (+unknown.gross, unknown.burnt, +unknown.accrued)


def test_lines_past_the_end_of_the_credit_are_not_looked_at():
    lines = iter([("llm", 5), ("voice", 7), ("llm", 9), ("voice", 1)])
    assert allocate(lines, [6], gross=Counter(llm=14, voice=8)).accrued == {"voice": 7, "llm": 9}
    assert next(lines) == ("voice", 1)
