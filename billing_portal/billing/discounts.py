"""Discounts: per cent or an amount off what credit leaves of a month's usage, before tax.

A discount is a line of ours on the invoice, as credit is, and not a coupon of Stripe's: that would be computed from
Stripe's own sum, interim invoices would be lowered by it once more, and nobody could compute it again from the calls.

What comes off is a pure function of what the month came to (`compute`). It is posted whenever an invoice is cut, as the
difference to what was posted before; so it comes to the same wherever the month was cut (I8).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import structlog
from django.db import transaction

from accounts.models import Organization
from billing_portal.billing import minor_units
from billing_portal.billing.models import Discount
from billing_portal.ledger import accounts, journal, periods, totals
from billing_portal.ledger import discounts as ledger_discounts
from billing_portal.ledger.models import DISCOUNT, Account, Period
from billing_portal.ledger.totals import MonthTotals
from usage import money, shares
from usage import periods as months
from usage.models import Billable

log = structlog.get_logger(__name__)

WHOLE_PERCENT_HUNDREDTHS = 10_000


class MonthClosed(ValueError):
    """The invoice of the month that a discount should begin, or end, with stands already."""

    def __init__(self, month: date) -> None:
        super().__init__(f"{month:%B %Y} is closed, so its invoice stands.")
        self.month = month


class AlreadyEnded(Exception):
    """The discount has an end already, or is over before the month."""

    def __init__(self, discount: Discount) -> None:
        super().__init__(f"{discount} has an end already.")
        self.discount = discount


@dataclass(frozen=True, slots=True)
class Term:
    """One discount as it is computed: either hundredths of a per cent or minor units, not both."""

    name: str
    percent_hundredths: int | None
    amount_minor: int | None


# ── What comes off ────────────────────────────────────────────────────────────────────────────────────────────────────


def compute(so_far: MonthTotals, terms: Sequence[Term], currency: str) -> dict[tuple[str, str], int]:
    """Return the micros that discounts take off a month, by (name, component). Pure.

    Each is taken, in its turn, of what credit and the discounts before it leave to bill, in whole minor units: so "20 %
    of $523.46" is on the invoice to the cent. What was forgiven counts as left for a per cent, but is not taken twice.
    A component of which nothing is left to bill is covered to the micro.
    """
    gross, credit, forgiven = so_far.gross, _credit(so_far), so_far.forgiven
    left_micros = {name: gross.get(name, 0) - credit[name] for name in Billable.values}
    room = {name: _net(gross.get(name, 0), credit[name], currency) for name in Billable.values}
    before = (_net(gross.get(name, 0), credit[name] - forgiven.get(name, 0), currency) for name in Billable.values)
    base = sum(before)
    found: dict[tuple[str, str], int] = {}
    for term in terms:
        if term.percent_hundredths is not None:
            off = money.round_half_up(base * term.percent_hundredths, WHOLE_PERCENT_HUNDREDTHS)
        else:
            off = min(term.amount_minor or 0, base)
        base -= off
        parts = shares.spread(min(off, sum(room.values())), list(room.values())) if any(room.values()) else []
        for component, part in zip(room, parts, strict=False):
            if part:
                room[component] -= part
                micros = minor_units.to_micros(part, currency) if room[component] else left_micros[component]
                left_micros[component] -= micros
                found[term.name, component] = micros
    return found


def terms_of(organization_id: int, month: date) -> list[Term]:
    """Return the discounts that lower a month, in the order of their entry."""
    return [_term(each) for each in in_force(organization_id, month)]


def _term(discount: Discount) -> Term:
    micros = discount.amount_micros
    minor = None if micros is None else minor_units.from_micros(micros, discount.currency)
    return Term(discount.name, discount.percent_hundredths, minor)


def in_force(organization_id: int, month: date) -> list[Discount]:
    """Return the discounts that lower a month, in the order in which they are taken."""
    begun = Discount.objects.filter(organization_id=organization_id, first_month__lte=month)
    return [each for each in begun.order_by("id") if (last := last_month(each)) is None or month <= last]


def last_month(discount: Discount) -> date | None:
    """Return the last month that it lowers by its terms or its end; None for one without an end.

    One that was ended before it began has a last month before its first.
    """
    ends = []
    if discount.months is not None:
        ends.append(_after(discount.first_month, discount.months - 1))
    if discount.ended_before is not None:
        ends.append(months.previous_month(discount.ended_before))
    return min(ends, default=None)


def _after(month: date, count: int) -> date:
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)


def _credit(so_far: MonthTotals) -> Counter[str]:
    """Return what credit paid and what was forgiven, by component."""
    credit: Counter[str] = Counter()
    for (kind, component), micros in so_far.burnt.items():
        if kind != DISCOUNT:
            credit[component] += micros
    return credit


def _net(gross: int, credit: int, currency: str) -> int:
    return minor_units.from_micros(gross, currency) - minor_units.from_micros(credit, currency)


# ── Putting it into the books ─────────────────────────────────────────────────────────────────────────────────────────


def apply(account: Account, month: date, *, now: datetime) -> None:
    """Bring what discounts take off an open month to what it has come to so far. Under the account's lock."""
    standing = in_force(account.organization_id, month)
    terms = [_term(each) for each in standing]
    if not terms and not ledger_discounts.taken(account.organization_id, month):
        return
    due = compute(totals.month(account.organization_id, month), terms, account.currency)
    ledger_discounts.take_off(
        account,
        month,
        due,
        terms=[(term.name, term.percent_hundredths, term.amount_minor) for term in terms],
        reason="; ".join(dict.fromkeys(each.reason for each in standing)),
        now=now,
    )


def apply_to_open(account: Account, *, now: datetime) -> None:
    """Do so for every month that is not closed. Under the account's lock."""
    for month in periods.open_months(account.organization_id):
        apply(account, month, now=now)


def close_month(organization_id: int, month: date, *, now: datetime) -> Period:
    """Take off what is due of a month, and close it in the same transaction. Closing again changes nothing.

    Raises ledger.periods.PeriodNotOver, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization_id)
        for each in periods.open_months(organization_id):
            if each <= month:
                apply(account, each, now=now)
        return periods.close(organization_id, month, now=now)


# ── Entering and ending ───────────────────────────────────────────────────────────────────────────────────────────────


def enter(
    *,
    organization: Organization,
    percent_hundredths: int | None,
    amount_micros: int | None,
    first_month: date,
    months: int | None,
    reason: str,
    reference: str,
    now: datetime,
) -> Discount:
    """Enter a discount, once per `reference`; an amount is in whole minor units of the account's currency.

    Raises MonthClosed, ledger.journal.ReferenceReused, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        wanted = (percent_hundredths, amount_micros, first_month, months, reason)
        known = Discount.objects.filter(organization=organization, reference=reference).first()
        if known is not None:
            found = (known.percent_hundredths, known.amount_micros, known.first_month, known.months, known.reason)
            if found != wanted:
                raise journal.ReferenceReused(reference, found, wanted)
            return known
        _assert_open(organization.pk, first_month)
        discount = Discount.objects.create(
            organization=organization,
            percent_hundredths=percent_hundredths,
            amount_micros=amount_micros,
            currency=account.currency,
            first_month=first_month,
            months=months,
            reason=reason,
            reference=reference,
            entered_at=now,
        )
    log.info("discount entered", organization_id=organization.pk, discount_id=discount.pk)
    return discount


def end(discount: Discount, *, before: date) -> Discount:
    """Let a discount lower no month from `before` on. Ending it again at the same month changes nothing.

    Raises MonthClosed, AlreadyEnded, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        accounts.lock(discount.organization_id)
        discount.refresh_from_db()
        if discount.ended_before == before:
            return discount
        last = last_month(discount)
        if discount.ended_before is not None or (last is not None and last < before):
            raise AlreadyEnded(discount)
        _assert_open(discount.organization_id, before)
        discount.ended_before = max(before, discount.first_month)
        discount.save(update_fields=["ended_before"])
    log.info("discount ended", organization_id=discount.organization_id, discount_id=discount.pk)
    return discount


def _assert_open(organization_id: int, month: date) -> None:
    closed = periods.last_closed(organization_id)
    if closed is not None and month <= closed.month:
        raise MonthClosed(month)


# ── What people read ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TakenOff:
    """What one discount took off a month, for people to read."""

    discount: Discount
    micros: int


def of_month(organization_id: int, month: date) -> list[TakenOff]:
    """Return what each discount took off a month so far, in the order in which they were taken."""
    sums: Counter[str] = Counter()
    for (name, _), micros in ledger_discounts.taken(organization_id, month).items():
        sums[name] += micros
    named = Discount.objects.filter(organization_id=organization_id, public_id__in=list(sums)).order_by("id")
    return [TakenOff(each, sums[each.name]) for each in named]


def current(organization_id: int, month: date) -> list[Discount]:
    """Return the discounts that lower this month or a later one, in the order in which they are taken."""
    entered = Discount.objects.filter(organization_id=organization_id).order_by("id")
    return [each for each in entered if (last := last_month(each)) is None or last >= max(month, each.first_month)]


def preview_minor(organization_id: int, month: date, term: Term, currency: str) -> tuple[int, int]:
    """Return what a month would be billed before tax so far, without and with one more discount, in minor units."""
    so_far, terms = totals.month(organization_id, month), terms_of(organization_id, month)
    without, within = compute(so_far, terms, currency), compute(so_far, [*terms, term], currency)
    return _billed_minor(so_far, without, currency), _billed_minor(so_far, within, currency)


def _billed_minor(so_far: MonthTotals, taken: Mapping[tuple[str, str], int], currency: str) -> int:
    off = _credit(so_far)
    for (_, component), micros in taken.items():
        off[component] += micros
    return sum(_net(so_far.gross.get(name, 0), off[name], currency) for name in Billable.values)
