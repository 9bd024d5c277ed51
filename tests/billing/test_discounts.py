"""Discounts by staff: what they take off, wherever a month is cut, and that Stripe, the books and the receipt agree."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing_portal.billing import (
    amounts_due,
    credit_lines,
    discounts,
    interim_walk,
    interims,
    minor_units,
    month_end,
    reconciliation,
)
from billing_portal.billing.discounts import Term
from billing_portal.billing.models import Discount, Invoice
from billing_portal.ledger import accounts, credits, journal, periods, totals, verification, write_offs
from billing_portal.ledger.models import Account, Grant
from billing_portal.ledger.totals import MonthTotals
from tests.billing.receipts.conftest import assert_all_verified, changed, content, packed, rewritten, verify
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, use
from tests.stripe.conftest import RunningSandbox
from usage import money
from usage.shares import Grouping

Maker = Callable[..., Organization]
MARCH = date(2027, 3, 1)


def enter(organization: Organization, **terms: Any) -> Discount:
    """Enter a discount, of this month on and for ever unless told otherwise."""
    given = {"percent_hundredths": None, "amount_micros": None, "first_month": MONTH, "months": None} | terms
    given = {"reason": "Launch partner", "reference": f"staff:{given}", "now": MIDMONTH} | given
    return discounts.enter(organization=organization, **given)


# ── What comes off: a pure function ───────────────────────────────────────────────────────────────────────────────────

_COMPONENTS = ["platform", "voice", "llm"]
_months = st.dictionaries(st.sampled_from(_COMPONENTS), st.tuples(*[st.integers(0, 10**9)] * 3), min_size=1, max_size=3)
_terms = st.lists(st.tuples(st.booleans(), st.integers(1, 10_000)), max_size=3).map(
    lambda terms: [
        Term(str(number), size if is_percent else None, None if is_percent else size)
        for number, (is_percent, size) in enumerate(terms)
    ]
)
_currencies = st.sampled_from(["USD", "JPY", "KWD"])


def _totals(parts: dict[str, tuple[int, int, int]]) -> MonthTotals:
    """Return a month of (accrued, burnt by prepaid credit, forgiven) by component."""
    burnt = Counter({("prepaid", name): burnt for name, (_, burnt, _) in parts.items()})
    burnt.update({("goodwill", name): forgiven for name, (_, _, forgiven) in parts.items()})
    return MonthTotals(
        gross={name: sum(part) for name, part in parts.items()},
        burnt=dict(burnt),
        accrued={name: accrued for name, (accrued, _, _) in parts.items()},
        forgiven={name: forgiven for name, (_, _, forgiven) in parts.items()},
    )


def _billed(month: MonthTotals, taken: dict[tuple[str, str], int], currency: str) -> Counter[str]:
    """Return what the lines of an invoice come to by component, as credit lines round them."""
    burnt = Counter(month.burnt)
    for (_, component), micros in taken.items():
        burnt["discount", component] += micros
    lines = Counter({name: minor_units.from_micros(gross, currency) for name, gross in month.gross.items()})
    for credit in credit_lines.round_cumulatively(burnt, currency):
        lines[credit.component] -= credit.amount_minor
    return lines


@settings(max_examples=60, deadline=None)
@given(parts=_months, terms=_terms, currency=_currencies)
def test_i10_i11_discounts_take_whole_minor_units_and_never_more_than_is_left(
    parts: dict[str, tuple[int, int, int]], terms: list[Term], currency: str
) -> None:
    month = _totals(parts)
    before, taken = _billed(month, {}, currency), discounts.compute(month, terms, currency)
    after = _billed(month, taken, currency)
    assert all(micros > 0 for micros in taken.values())
    for component, accrued in month.accrued.items():
        assert 0 <= sum(micros for (_, each), micros in taken.items() if each == component) <= accrued
        assert 0 <= after[component] <= before[component]
    base = before.total() if not any(month.forgiven.values()) else None
    if base is not None:
        due = base
        for term in terms:
            off = money.round_half_up(due * (term.percent_hundredths or 0), 10_000)
            due -= off if term.percent_hundredths else min(term.amount_minor or 0, due)
        assert after.total() == due  # to the minor unit, over all components together


@settings(max_examples=60, deadline=None)
@given(parts=_months, terms=_terms, currency=_currencies, more=st.integers(0, 10**9))
def test_i17_more_usage_is_never_billed_less(
    parts: dict[str, tuple[int, int, int]], terms: list[Term], currency: str, more: int
) -> None:
    month, dearer = _totals(parts), _totals({**parts, "llm": _more(parts.get("llm", (0, 0, 0)), more)})
    billed = [_billed(each, discounts.compute(each, terms, currency), currency).total() for each in (month, dearer)]
    assert billed[0] <= billed[1]


def _more(part: tuple[int, int, int], micros: int) -> tuple[int, int, int]:
    return (part[0] + micros, part[1], part[2])


def test_the_whole_is_covered_to_the_micro() -> None:
    month = _totals({"platform": (1_004_999, 0, 0), "llm": (4_998, 1, 0)})
    taken = discounts.compute(month, [Term("all", 10_000, None)], "USD")
    assert taken == {("all", "platform"): 1_004_999}  # what rounds to nothing is not billed anyhow
    assert _billed(month, taken, "USD").total() == 0


def test_an_amount_takes_what_there_is_and_the_next_one_what_it_leaves() -> None:
    month = _totals({"platform": (10_000_000, 0, 0), "llm": (5_000_000, 0, 0)})
    taken = discounts.compute(month, [Term("ten", None, 1_000), Term("half", 5_000, None)], "USD")
    assert sum(micros for (name, _), micros in taken.items() if name == "ten") == 10_000_000
    assert sum(micros for (name, _), micros in taken.items() if name == "half") == 2_500_000


@settings(max_examples=40, deadline=None)
@given(cents=st.tuples(*[st.integers(0, 10**6)] * 3), percent=st.integers(1, 10_000))
def test_f48_while_a_discount_lasts_a_correction_at_list_price_comes_to_what_was_right_from_the_start(
    cents: tuple[int, int, int], percent: int
) -> None:
    closed, following, wrong = (each * 10_000 for each in cents)
    wrong = min(wrong, closed, following)
    terms = [Term("p", percent, None)]

    def billed(accrued: int, credit: int = 0) -> int:
        month = _totals({"llm": (accrued, credit, 0)})
        return _billed(month, discounts.compute(month, terms, "USD"), "USD").total()

    corrected_later = billed(closed) + billed(following - wrong, wrong)
    assert abs(corrected_later - billed(closed - wrong) - billed(following)) <= 2  # a rounding each


# ── Terms ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def acme(db: None, make_organization: Maker) -> Organization:
    organization = make_organization("acme")
    accounts.open(organization=organization, now=MIDMONTH)
    return organization


def test_a_discount_lowers_its_months_and_no_other(acme: Organization) -> None:
    found = enter(acme, percent_hundredths=2_000, first_month=MARCH, months=2)
    lowered = [
        month for month in (MONTH, MARCH, date(2027, 4, 1), date(2027, 5, 1)) if discounts.in_force(acme.pk, month)
    ]
    assert lowered == [MARCH, date(2027, 4, 1)]
    assert discounts.last_month(found) == date(2027, 4, 1)


def test_f27_i06_it_is_entered_once_a_reference(acme: Organization) -> None:
    first = enter(acme, percent_hundredths=2_000, reference="form")
    assert enter(acme, percent_hundredths=2_000, reference="form") == first
    with pytest.raises(journal.ReferenceReused):
        enter(acme, percent_hundredths=3_000, reference="form")
    assert Discount.objects.count() == 1


def test_i12_its_terms_stand_and_it_is_ended_once(acme: Organization) -> None:
    found = enter(acme, percent_hundredths=2_000)
    with pytest.raises(IntegrityError), transaction.atomic():
        Discount.objects.update(percent_hundredths=3_000)
    assert discounts.end(found, before=MARCH).ended_before == MARCH
    assert discounts.end(found, before=MARCH).ended_before == MARCH
    with pytest.raises(discounts.AlreadyEnded):
        discounts.end(found, before=date(2027, 4, 1))
    assert discounts.in_force(acme.pk, MARCH) == []


def test_none_begins_in_a_closed_month(acme: Organization) -> None:
    periods.close(acme.pk, MONTH, now=CLOSING)
    with pytest.raises(discounts.MonthClosed):
        enter(acme, percent_hundredths=2_000)


# ── A month at Stripe ─────────────────────────────────────────────────────────────────────────────────────────────────


def ended(organization: Organization) -> Invoice:
    invoice = invoice_of(organization)
    assert month_end.advance(invoice, now=CLOSING), Invoice.objects.get(pk=invoice.pk).waiting_for
    invoice.refresh_from_db()
    return invoice


def assert_agrees(organization: Organization, directory: Path) -> None:
    for invoice in Invoice.objects.filter(organization=organization):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert list(verification.verify(organization.pk)) == []
    assert assert_all_verified(organization, directory) == Invoice.objects.filter(organization=organization).count()


def test_a_month_with_credit_two_discounts_and_forgiveness_agrees(used: Maker, tmp_path: Path) -> None:
    organization = used("acme", credit_micros=2_000_000)
    enter(organization, percent_hundredths=1_250)
    ten = enter(organization, amount_micros=3_000_000, months=1, reason="For the outage", reference="outage")
    write_offs.forgive(
        organization=organization, month=MONTH, micros=500_000, reason="Late", reference="late", now=MIDMONTH
    )
    left = totals.month(organization.pk, MONTH).accrued_micros
    invoice = ended(organization)
    taken = discounts.of_month(organization.pk, MONTH)
    assert [each.discount.reason for each in taken] == ["Launch partner", "For the outage"]
    assert taken[1].micros == ten.amount_micros
    assert abs(invoice.total_minor * 10_000 - (left + 500_000) * 875 // 1000 + 3_500_000) < 50_000
    assert invoice.lines.filter(grant_kind="discount").exists()
    for grouping in (Grouping.AGENT, Grouping.MODEL):
        rows = amounts_due.compute(invoice, grouping, now=CLOSING)
        assert sum(row.due_minor for row in rows) == invoice.amount_due_minor
    assert_agrees(organization, tmp_path)


def test_a_discount_of_all_ends_at_exactly_zero(used: Maker, tmp_path: Path) -> None:
    organization = used("acme", calls=20, credit_micros=0)
    enter(organization, percent_hundredths=10_000)
    invoice = ended(organization)
    assert (invoice.state, invoice.total_minor) == (Invoice.State.PAID, 0)
    assert Account.objects.get(organization=organization).accrued_micros < 50_000
    assert_agrees(organization, tmp_path)


def test_i08_interim_invoices_are_lowered_too_and_all_come_to_the_same(
    stripe: RunningSandbox, limited: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    organization = limited("acme")
    enter(organization, percent_hundredths=1_000)
    for seed in (1, 2):
        use(organization, 16, seed=seed)
        interim = interims.write_if_due(organization.pk, now=MIDMONTH + timedelta(hours=12))
        assert interim is not None
        assert interim_walk.advance(interim, now=MIDMONTH + timedelta(hours=12))
    credits.grant(organization=organization, kind=Grant.Kind.PREPAID, micros=300_000, reference="more", now=MIDMONTH)
    use(organization, 2, seed=3)
    stripe.advance_to(CLOSING.timestamp())
    ended(organization)
    month = totals.month(organization.pk, MONTH)
    undiscounted = MonthTotals(
        month.gross, {name: micros for name, micros in month.burnt.items() if name[0] != "discount"}, {}, month.forgiven
    )
    due = _billed(undiscounted, {}, "USD").total()
    billed = sum(each.total_minor - each.tax_minor for each in Invoice.objects.filter(organization=organization))
    assert billed == due - money.round_half_up(due * 1_000, 10_000)
    assert_agrees(organization, tmp_path)


def test_i18_terms_that_were_changed_in_a_receipt_are_found_by_arithmetic(used: Maker, tmp_path: Path) -> None:
    organization = used("acme", calls=10, credit_micros=0)
    enter(organization, percent_hundredths=2_000)
    path = packed(ended(organization), tmp_path / "receipt.zip")
    said = verify(path)
    assert said.verified, said.text
    assert "taken off by discounts: " in said.text
    files = content(path)
    lines = files["ledger.jsonl"].splitlines()
    number = next(place for place, line in enumerate(lines) if b'"kind":"discount"' in line)
    for change in (_half_as_much, _nothing_taken):
        forged = files | {"ledger.jsonl": changed(files["ledger.jsonl"], number, change)}
        verdict = verify(rewritten(forged, tmp_path / "forged.zip"))
        assert verdict.text.startswith(
            f"NOT VERIFIED\nledger.jsonl, line {number + 1}: what discounts take off must be"
        )


def _half_as_much(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"terms": [[name, 1_000, None] for name, _, _ in line["terms"]]}


def _nothing_taken(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"parts": []}
