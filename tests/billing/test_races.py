"""Each verb that buys, invoices or reports, done by eight connections at once, a hundred times: see `ledger.racing`.

Stripe is not asked: each of these is done before it is, or after.
"""

import ast
import uuid
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing import bad_debts, discounts, interims, metering, purchases, seats, top_up_orders, top_ups
from billing_portal.billing.models import (
    Discount,
    InterimInvoice,
    Invoice,
    Purchase,
    PurchaseStep,
    Report,
    SeatMove,
    SeatPlan,
    TopUp,
)
from billing_portal.ledger import totals, write_offs
from billing_portal.ledger.models import Account, DiscountPosting, Grant, Transaction
from tests.billing import test_races_of_buckets, test_races_of_money_back
from tests.ledger import racing
from tests.ledger import test_races as ledgers_races

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_is_queued")]

OCTOBER = date(2026, 10, 1)
FIFTY = 50_000_000
TERMS = {"threshold_micros": FIFTY, "amount_micros": FIFTY, "ceiling_micros": 4 * FIFTY}


def of(model: Any, organization: Organization) -> list[Any]:
    return list(model.objects.filter(organization=organization).order_by("pk"))


# ── Credit that is bought ─────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("purchases.ask_once")
@racing.FEW_OR_ALL
def test_f27_f29_a_form_sent_from_eight_tabs_at_once_asks_for_one_purchase(
    customers: list[Organization], alice: User, now: datetime
) -> None:
    keys = {each.pk: purchases.next_key(each) for each in customers}

    def act(organization: Organization, _: int) -> Purchase:
        what: dict[str, Any] = {"micros": FIFTY, "currency": "USD", "way": Purchase.Way.CHECKOUT}
        return purchases.ask(organization=organization, user=alice, key=keys[organization.pk], now=now, **what)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == of(Purchase, organization) * 8

    racing.prove(customers, act, law)


@racing.of("purchases.credit")
@racing.FEW_OR_ALL
def test_f30_f31_i13_what_was_paid_is_credited_once_whoever_hears_of_it_first(
    customers: list[Organization], alice: User, now: datetime
) -> None:
    """Webhooks, the task that charged, the person who came back, and the sweep, all at once."""
    Purchase.objects.bulk_create(
        Purchase(
            organization=each,
            origin=Purchase.Origin.PERSON,
            way=Purchase.Way.CHECKOUT,
            currency="USD",
            amount_micros=FIFTY,
            state=Purchase.State.PAYING,
            asked_by=alice,
            asked_at=now,
        )
        for each in customers
    )

    def act(organization: Organization, _: int) -> None:
        purchases.take_payment(Purchase.objects.get(organization=organization), (5_000, "USD"), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == [None] * 8
        assert [(grant.kind, grant.amount_micros) for grant in of(Grant, organization)] == [("prepaid", FIFTY)]
        steps = PurchaseStep.objects.filter(purchase__organization=organization).order_by("id")
        assert list(steps.values_list("state", flat=True)) == ["paid", "credited"]

    racing.prove(customers, act, law, sabotage=without_any_lock)


def without_any_lock(patch: pytest.MonkeyPatch) -> None:
    """A purchase's row is locked before the account's."""
    racing.without_the_lock(patch)
    looked_at = Purchase.objects.select_related("organization", "invoice", "top_up")
    patch.setattr(purchases, "_lock", lambda purchase: looked_at.get(pk=purchase.pk))


@racing.of("top_ups.check")
@racing.FEW_OR_ALL
def test_f36_one_top_up_is_asked_for(customers: list[Organization], alice: User, now: datetime) -> None:
    order_all(customers, alice, now)

    def act(organization: Organization, _: int) -> Purchase | None:
        return top_ups.check(organization.pk, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert len(of(Purchase, organization)) == 1
        assert sorted(map(repr, answers)) == sorted(map(repr, [*of(Purchase, organization), *[None] * 7]))

    racing.prove(customers, act, law)


@racing.of("top_up_orders.accept")
@racing.FEW_OR_ALL
def test_f29_a_standing_order_accepted_in_eight_tabs_is_one(
    customers: list[Organization], alice: User, now: datetime
) -> None:
    def act(organization: Organization, _: int) -> TopUp:
        return top_up_orders.accept(organization=organization, user=alice, now=now, **TERMS)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == of(TopUp, organization) * 8

    racing.prove(customers, act, law)


@racing.of("top_up_orders.end")
@racing.FEW_OR_ALL
def test_i06_a_standing_order_ends_once(customers: list[Organization], alice: User, now: datetime) -> None:
    orders = order_all(customers, alice, now)

    def act(organization: Organization, number: int) -> bool:
        return top_up_orders.end(orders[organization.pk], reason=f"By {number}", now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert sorted(map(repr, answers)) == ["False"] * 7 + ["True"]
        assert of(TopUp, organization)[0].ended_reason == f"By {answers.index(True)}"

    racing.prove(customers, act, law, sabotage=without_lock_and_condition)


def without_lock_and_condition(patch: pytest.MonkeyPatch) -> None:
    """An order is ended by an UPDATE of what is in force: that alone would do."""

    def end(order: TopUp, *, reason: str, now: datetime, **_: object) -> bool:
        if not TopUp.objects.filter(pk=order.pk, ended_at=None).exists():
            return False
        return bool(TopUp.objects.filter(pk=order.pk).update(ended_at=now, ended_reason=reason))

    racing.without_the_lock(patch)
    patch.setattr(top_up_orders, "_end", end)


def order_all(organizations: Sequence[Organization], user: User, now: datetime) -> dict[int, TopUp]:
    with transaction.atomic():
        return {each.pk: top_up_orders.accept(organization=each, user=user, now=now, **TERMS) for each in organizations}


# ── Usage that is billed ──────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("interims.write_if_due")
@racing.FEW_OR_ALL
def test_f23_f36_an_interim_invoice_is_asked_for_once(customers: list[Organization], now: datetime) -> None:
    racing.use(customers, 1, now=now)
    Account.objects.update(arrears_limit_micros=10_000)

    def act(organization: Organization, _: int) -> InterimInvoice | None:
        return interims.write_if_due(organization.pk, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        written = of(InterimInvoice, organization)
        assert len(written) == 1
        assert sorted(map(repr, answers)) == sorted(map(repr, [*written, *[None] * 7]))
        assert interims.micros(written[0]) == Account.objects.get(organization=organization).accrued_micros

    racing.prove(customers, act, law)


@racing.of("metering.write_reports")
@racing.FEW_OR_ALL
def test_f23_i04_a_settlement_is_reported_once(customers: list[Organization], now: datetime) -> None:
    racing.use(customers, 1, now=now)

    def act(organization: Organization, _: int) -> int:
        return metering.write_reports(organization.pk, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        written = len(of(Report, organization))
        assert written > 1
        assert sorted(map(repr, answers)) == ["0"] * 7 + [repr(written)]
        assert metering.reported(organization.pk, OCTOBER) == totals.month(organization.pk, OCTOBER).gross

    racing.prove(customers, act, law)


@racing.of("bad_debts.write_off")
@racing.FEW_OR_ALL
def test_f27_a_bad_debt_is_written_off_once(customers: list[Organization], now: datetime) -> None:
    """Two people want to, and each sends it four times."""
    racing.use(customers, 1, now=now)
    Invoice.objects.bulk_create(
        Invoice(
            organization=each,
            stripe_invoice_id=f"in_{each.pk}",
            month=OCTOBER,
            currency="USD",
            state=Invoice.State.UNCOLLECTIBLE,
            drafted_at=now,
        )
        for each in customers
    )

    def act(organization: Organization, number: int) -> Transaction:
        invoice = Invoice.objects.get(organization=organization)
        return bad_debts.write_off(invoice, reason="Race", reference=f"w{number % 2}", now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        written_off = Transaction.objects.filter(organization=organization, kind="write_off")
        assert len(written_off) == 1
        posted = written_off[0]
        assert answers.count(posted) == 4
        refused = [type(answer) for answer in answers if answer != posted]
        assert set(refused) <= {write_offs.AlreadyGivenUp, write_offs.MoreThanOwed}
        assert Account.objects.get(organization=organization).accrued_micros == 0

    racing.prove(customers, act, law)


@racing.of("discounts.enter", "discounts.end")
@racing.FEW_OR_ALL
def test_f27_a_discount_is_entered_and_ended_once(customers: list[Organization], now: datetime) -> None:
    """Two forms, each sent four times, and each ended at once."""
    terms = {"percent_hundredths": 1_000, "amount_micros": None, "first_month": OCTOBER, "months": None, "reason": "R"}

    def act(organization: Organization, number: int) -> Discount:
        entered = discounts.enter(organization=organization, **terms, reference=f"d{number % 2}", now=now)
        return discounts.end(entered, before=date(2026, 12, 1))

    def law(organization: Organization, answers: list[Any]) -> None:
        entered = of(Discount, organization)
        assert len(entered) == 2
        assert [answers.count(each) for each in entered] == [4, 4]

    racing.prove(customers, act, law)


@racing.of("discounts.close_month")
@racing.FEW_OR_ALL
def test_i04_a_closed_months_discount_is_taken_off_once(customers: list[Organization], now: datetime) -> None:
    racing.use(customers, 1, now=now)
    Discount.objects.bulk_create(
        Discount(
            organization=each,
            percent_hundredths=1_000,
            currency="USD",
            first_month=OCTOBER,
            reason="R",
            reference="d",
            entered_at=now,
        )
        for each in customers
    )
    november = now.replace(month=11)

    def act(organization: Organization, _: int) -> int:
        return discounts.close_month(organization.pk, OCTOBER, now=november).pk

    def law(organization: Organization, answers: list[Any]) -> None:
        assert len(set(map(repr, answers))) == 1
        assert len(of(DiscountPosting, organization)) == 1
        month = totals.month(organization.pk, OCTOBER)
        assert 0 < sum(micros for (kind, _), micros in month.burnt.items() if kind == "discount") < month.gross_micros

    racing.prove(customers, act, law)


# ── Seats ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("seats.sell")
@racing.FEW_OR_ALL
def test_f27_seats_are_sold_once_a_form_and_one_change_is_open(customers: list[Organization], now: datetime) -> None:
    """Two forms of staff, each sent four times."""
    sam = User.objects.create_user("sam@desk.example", "x", is_staff=True)
    plans = {
        each.pk: SeatPlan.objects.create(
            organization=each,
            stripe_price_id="price_1",
            stripe_subscription_id=f"sub_seats_{each.pk}",
            stripe_seats_item_id="si_1",
            stripe_units_item_id="si_2",
            seat_micros=29_000_000,
            currency="USD",
            base_seats=10,
            seats=10,
            units=0,
            unit_micros=990_000,
            attached_at=now,
        )
        for each in customers
    }

    def act(organization: Organization, number: int) -> SeatMove:
        key = uuid.uuid5(organization.public_id, str(number % 2))
        return seats.sell(plans[organization.pk], base_seats=11 + number % 2, public_id=key, by=sam, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        (move,) = of(SeatMove, organization)
        assert answers.count(move) == 4
        assert {type(answer) for answer in answers if answer != move} == {seats.MoveOpen}

    racing.prove(customers, act, law)


# ── Nothing is left out ───────────────────────────────────────────────────────────────────────────────────────────────

# These take the lock and move no money: what they set is set once or set again, and who proves only reads.
NOT_RACED = {
    "accounts.freeze",
    "accounts.unfreeze",
    "accounts.limit_arrears",
    "alerts.set",
    "checks.check",
    "actions.ask",  # in tests/support
    "debts._write",  # one line an invoice and source, by a constraint; it moves nothing in the books
    "rollup_rebuilds.rebuild",  # in tests.ledger.test_rollup_rebuilds, beside two who settle
    "outcome_settlement.settle",  # in tests.ledger.test_buckets, by eight threads
}
# Reading them notes what they race.
ELSEWHERE = (ledgers_races, test_races_of_buckets, test_races_of_money_back)


def test_every_verb_that_takes_the_lock_is_raced() -> None:
    """A new verb joins with a race of its own, here or beside those of its kind."""
    found = {verb for path in settings.BASE_DIR.glob("billing_portal/**/*.py") for verb in _locking(path)}
    assert found - NOT_RACED <= racing.RACED
    assert found >= NOT_RACED
    assert not NOT_RACED & racing.RACED


def _locking(path: Path) -> set[str]:
    """Return the functions of a module that take the lock of an account or of several."""
    wanted = ("lock", "lock_many") if path.parts[-2:] == ("ledger", "accounts.py") else ()
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            called = {ast.unparse(each.func) for each in ast.walk(function) if isinstance(each, ast.Call)}
            if called & {"accounts.lock", "accounts.lock_many", *wanted}:
                found.add(f"{path.stem}.{function.name}")
    return found
