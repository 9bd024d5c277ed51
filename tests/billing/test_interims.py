"""What interim invoices bill, and when one is due: the part that knows no Stripe."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization
from billing_portal.billing import interims, minor_units
from billing_portal.billing.interims import Billed
from billing_portal.billing.models import Customer, InterimInvoice, InterimLine, Invoice, PaymentMethod
from billing_portal.ledger import accounts, balances, credits, periods, write_offs
from billing_portal.ledger.models import Account, Grant
from billing_portal.ledger.totals import MonthTotals
from tests.billing.world import MIDMONTH, MONTH, load_prices, use

State = InterimInvoice.State
LIMIT = 5_000_000
_seeds = itertools.count(1_000)
Maker = Callable[..., Organization]

# ── What one bills ────────────────────────────────────────────────────────────────────────────────────────────────────

_COMPONENTS = ["platform", "llm", "telephony"]
_KINDS = ["welcome", "goodwill", "prepaid"]
_settlements = st.lists(
    st.tuples(st.sampled_from(_COMPONENTS), st.sampled_from(_KINDS), st.integers(0, 30_000), st.integers(0, 30_000)),
    max_size=30,
)


def _totals(settlements: list[tuple[str, str, int, int]]) -> MonthTotals:
    gross: Counter[str] = Counter()
    burnt: Counter[tuple[str, str]] = Counter()
    accrued: Counter[str] = Counter()
    for component, kind, paid_by_credit, left in settlements:
        gross[component] += paid_by_credit + left
        burnt[kind, component] += paid_by_credit
        accrued[component] += left
    return MonthTotals(gross=dict(gross), burnt=dict(burnt), accrued=dict(accrued))


def _own_rounding(month: MonthTotals, component: str, currency: str) -> int:
    burnt = sum(micros for (_, each), micros in month.burnt.items() if each == component)
    gross = minor_units.from_micros(month.gross.get(component, 0), currency)
    return gross - minor_units.from_micros(burnt, currency)


@given(settlements=_settlements, cuts=st.sets(st.integers(0, 30)), currency=st.sampled_from(["USD", "JPY", "KWD"]))
def test_i08_i11_wherever_they_are_cut_they_come_to_the_months_own_rounding(
    settlements: list[tuple[str, str, int, int]], cuts: set[int], currency: str
) -> None:
    billed = Billed()
    for cut in [*sorted(cuts), len(settlements)]:
        for line in interims.due(_totals(settlements[:cut]), billed, currency):
            billed.micros[line.component] += line.micros
            billed.minor[line.component] += line.amount_minor
    month = _totals(settlements)
    for component in _COMPONENTS:
        assert billed.minor[component] == _own_rounding(month, component, currency)
        assert billed.micros[component] == month.accrued.get(component, 0)
        exact = month.accrued.get(component, 0)
        assert abs(minor_units.to_micros(billed.minor[component], currency) - exact) <= 1_000_000
    assert interims.due(month, billed, currency) == []


@given(settlements=_settlements, cut=st.integers(0, 30))
def test_a_line_is_within_a_minor_unit_of_what_it_accrued(
    settlements: list[tuple[str, str, int, int]], cut: int
) -> None:
    first = interims.due(_totals(settlements[:cut]), Billed(), "USD")
    assert all(abs(line.amount_minor * 10_000 - line.micros) < 10_000 for line in first)


# ── When one is due ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def customer(db: None, make_organization: Maker) -> Maker:
    """Return a maker of organizations with books, prices, a card and a customer, of which Stripe knows nothing."""

    def make(reference: str = "acme", *, card: bool = True, **fields: object) -> Organization:
        load_prices()
        organization = make_organization(reference, **fields)
        accounts.open(organization=organization, now=MIDMONTH)
        accounts.limit_arrears(organization.pk, micros=LIMIT)
        Customer.objects.create(
            organization=organization,
            stripe_customer_id=f"cus_{reference}",
            stripe_subscription_id=f"sub_{reference}",
            subscribed_at=MIDMONTH,
            created_at=MIDMONTH,
        )
        if card:
            PaymentMethod.objects.create(
                organization=organization,
                stripe_payment_method_id=f"pm_{reference}",
                kind="card",
                is_default=True,
                created_at=MIDMONTH,
            )
        return organization

    return make


def use_up_to(organization: Organization, micros: int, *, starts_at: datetime = MIDMONTH) -> int:
    """Use call by call until at least `micros` are owed; return how much that is."""
    account = Account.objects.get(organization=organization)
    while (owed := balances.balance(account, now=starts_at).accrued_micros) < micros:
        use(organization, 1, seed=next(_seeds), starts_at=starts_at)
    return owed


def pay(interim: InterimInvoice) -> None:
    """End it as if Stripe had collected it."""
    invoice = Invoice.objects.create(
        organization=interim.organization, stripe_invoice_id=f"in_{interim.pk}", currency="USD", drafted_at=MIDMONTH
    )
    interims.link(interim, invoice)
    interims.follow(interim, Invoice.State.PAID, now=MIDMONTH)


def test_one_is_due_at_four_fifths_of_the_limit(customer: Maker) -> None:
    acme = customer()
    accrued = use_up_to(acme, LIMIT // 2)
    assert interims.write_if_due(acme.pk, now=MIDMONTH) is None
    assert interims.near_the_limit(10) == []
    accrued = use_up_to(acme, LIMIT * 4 // 5)
    assert interims.near_the_limit(10) == [acme.pk]
    interim = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert interim is not None
    assert (interim.month, interim.state, interim.first_sequence) == (MONTH, State.OPEN, 1)
    assert interim.last_sequence == Account.objects.get(organization=acme).last_sequence
    assert interims.micros(interim) == accrued < LIMIT


def test_f36_one_is_open_at_a_time(customer: Maker) -> None:
    acme = customer()
    use_up_to(acme, LIMIT)
    first = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert first is not None
    use_up_to(acme, 3 * LIMIT)
    assert interims.write_if_due(acme.pk, now=MIDMONTH) is None
    assert interims.near_the_limit(10) == []
    with pytest.raises(IntegrityError), transaction.atomic():
        first.pk, first.first_sequence = None, first.last_sequence + 1
        first.last_sequence += 9
        first.save(force_insert=True)


def test_i04_the_next_one_begins_where_the_last_one_ended(customer: Maker) -> None:
    acme = customer()
    use_up_to(acme, LIMIT)
    first = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert first is not None
    pay(first)
    accrued = use_up_to(acme, 2 * LIMIT)
    second = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert second is not None
    assert second.first_sequence == first.last_sequence + 1
    assert interims.micros(first) + interims.micros(second) == accrued == periods.invoiced(acme.pk, MONTH)
    assert interims.uninvoiced(acme.pk) == {MONTH: 0}
    with pytest.raises(IntegrityError), transaction.atomic():
        InterimInvoice.objects.filter(pk=second.pk).update(first_sequence=first.last_sequence)


def test_a_void_one_gives_its_settlements_back(customer: Maker) -> None:
    acme = customer()
    accrued = use_up_to(acme, LIMIT)
    first = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert first is not None
    for _ in range(2):
        interims.give_up(first, now=MIDMONTH)
        assert periods.invoiced(acme.pk, MONTH) == 0
    assert interims.uninvoiced(acme.pk) == {MONTH: accrued}
    second = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert second is not None
    assert (second.first_sequence, interims.micros(second)) == (1, accrued)


def test_credit_pays_first(customer: Maker) -> None:
    acme = customer()
    credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=3 * LIMIT, reference="p", now=MIDMONTH)
    use(acme, 20, seed=1)
    assert interims.write_if_due(acme.pk, now=MIDMONTH) is None


def test_nobody_is_charged_without_a_card_a_customer_or_a_limit(customer: Maker) -> None:
    use_up_to(carless := customer("carless", card=False), LIMIT)
    use_up_to(gone := customer("gone"), LIMIT)
    Customer.objects.filter(organization=gone).update(deleted_at=MIDMONTH)
    use_up_to(trusted := customer("trusted"), LIMIT)
    accounts.limit_arrears(trusted.pk, micros=1_000 * LIMIT)
    use_up_to(stopped := customer("stopped"), LIMIT)
    accounts.limit_arrears(stopped.pk, micros=0)
    use_up_to(frozen := customer("frozen"), LIMIT)
    accounts.freeze(frozen.pk, reason="a difference", now=MIDMONTH)
    for organization in (carless, gone, trusted, stopped, frozen):
        assert interims.write_if_due(organization.pk, now=MIDMONTH) is None, organization
    assert interims.near_the_limit(10) == []


def test_what_a_closed_month_owes_is_billed_by_its_own_invoice(customer: Maker) -> None:
    acme = customer()
    use_up_to(acme, LIMIT)
    march = datetime(2027, 3, 1, tzinfo=UTC)
    interims.periods.close(acme.pk, MONTH, now=march)
    use(acme, 1, seed=1, starts_at=march)
    assert set(interims.uninvoiced(acme.pk)) == {date(2027, 3, 1)}
    assert interims.write_if_due(acme.pk, now=march) is None
    owed = balances.balance(Account.objects.get(organization=acme), now=march).accrued_micros
    accrued = use_up_to(acme, owed + LIMIT, starts_at=march + timedelta(days=1))
    interim = interims.write_if_due(acme.pk, now=march)
    assert interim is not None
    assert (interim.month, interims.micros(interim) < accrued - LIMIT // 2) == (date(2027, 3, 1), True)


def test_the_month_with_most_to_bill_goes_first(customer: Maker) -> None:
    acme = customer()
    february = use_up_to(acme, LIMIT // 4)
    march = datetime(2027, 3, 1, 1, tzinfo=UTC)
    use_up_to(acme, LIMIT, starts_at=march)
    interim = interims.write_if_due(acme.pk, now=march)
    assert interim is not None
    assert interim.month == date(2027, 3, 1)
    assert interims.uninvoiced(acme.pk) == {MONTH: february, date(2027, 3, 1): 0}


def test_what_is_forgiven_is_not_billed_and_what_was_billed_still_stands(customer: Maker) -> None:
    acme = customer()
    use_up_to(acme, LIMIT)
    forgiven = {"organization": acme, "month": MONTH, "reason": "Sorry", "now": MIDMONTH}
    write_offs.forgive(**forgiven, micros=500_000, reference="before")
    accrued = use_up_to(acme, LIMIT)
    interim = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert interim is not None
    assert interims.micros(interim) == accrued
    write_offs.forgive(**forgiven, micros=2_000_000, reference="after")
    kept = [(line.component, line.micros, line.amount_minor) for line in interim.lines.all()]
    assert [(line.component, line.micros, line.amount_minor) for line in interims.rederived(interim)] == kept
    assert interims.uninvoiced(acme.pk) == {MONTH: -2_000_000}
    pay(interim)
    use_up_to(acme, 2 * LIMIT)
    waiting = interims.uninvoiced(acme.pk)[MONTH]
    second = interims.write_if_due(acme.pk, now=MIDMONTH)
    assert second is not None
    assert interims.micros(second) == waiting
    assert interims.uninvoiced(acme.pk) == {MONTH: 0}


def test_what_was_billed_and_forgiven_of_one_component_lowers_the_next_invoice() -> None:
    billed = Billed(Counter(platform=1_000_000), Counter(platform=100))
    so_far = MonthTotals(
        gross={"platform": 1_000_000, "llm": 3_000_000},
        burnt={("goodwill", "platform"): 400_000},
        accrued={"platform": 600_000, "llm": 3_000_000},
    )
    assert interims.due(so_far, billed, "USD") == [
        interims.Due("platform", -400_000, -40),
        interims.Due("llm", 3_000_000, 300),
    ]


@pytest.mark.django_db(transaction=True)
def test_f23_f36_eight_judges_at_once_write_one(customer: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = customer()
    use_up_to(acme, LIMIT)
    together = threading.Barrier(8)
    written: list[InterimInvoice | None] = []

    def judge() -> None:
        together.wait()
        try:
            written.append(interims.write_if_due(acme.pk, now=MIDMONTH))
        finally:
            connection.close()

    threads = [threading.Thread(target=judge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 8
    assert sum(interim is not None for interim in written) == 1
    assert InterimInvoice.objects.count() == 1


def test_i12_what_it_bills_never_changes(customer: Maker) -> None:
    acme = customer()
    use_up_to(acme, LIMIT)
    interims.write_if_due(acme.pk, now=MIDMONTH)
    with pytest.raises(Exception, match="Cannot update or delete"), transaction.atomic():
        InterimLine.objects.update(amount_minor=1)


def test_judging_one_that_owes_little_takes_few_queries(customer: Maker, django_assert_max_num_queries: object) -> None:
    acme = customer()
    use(acme, 1, seed=1)
    with django_assert_max_num_queries(1):
        interims.write_if_due(acme.pk, now=MIDMONTH)
