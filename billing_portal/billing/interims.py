"""Interim invoices in our books: when one is due, which settlements it covers, what it bills.

An interim invoice is the month's own invoice so far: per component the rounded gross less the rounded credit up to its
last settlement, less what earlier ones billed. So whatever the instants at which they were cut, together with the rest
at the month's end they come to the month's own rounding exactly.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, Max, Min, OuterRef, Q, QuerySet, Sum

from billing_portal.billing import discounts, minor_units
from billing_portal.billing.models import Customer, InterimInvoice, InterimLine, Invoice
from billing_portal.ledger import accounts, periods, totals
from billing_portal.ledger.models import Account, Settlement, Transaction
from billing_portal.ledger.totals import MonthTotals
from usage.models import Billable

log = structlog.get_logger(__name__)

State = InterimInvoice.State
_ENDS = {Invoice.State.PAID: State.PAID, Invoice.State.VOID: State.VOID}


@dataclass(frozen=True, slots=True)
class Billed:
    """What the interim invoices of a month bill, per component: micros accrued, and minor units before tax."""

    micros: Counter[str] = field(default_factory=Counter)
    minor: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Due:
    """One component of an interim invoice: micros accrued since the last one, and what is billed for that."""

    component: str
    micros: int
    amount_minor: int


# ── What is billed ────────────────────────────────────────────────────────────────────────────────────────────────────


def due(so_far: MonthTotals, billed: Billed, currency: str) -> list[Due]:
    """Return what a month's totals so far leave to bill after `billed`, by component. Pure.

    A component is negative where what was billed of it was forgiven since, or by a minor unit where gross and credit
    are rounded apart.
    """
    burnt: Counter[str] = Counter()
    for (_, component), micros in so_far.burnt.items():
        burnt[component] += micros
    lines = []
    for component in Billable.values:
        gross_minor = minor_units.from_micros(so_far.gross.get(component, 0), currency)
        net_minor = gross_minor - minor_units.from_micros(burnt[component], currency)
        micros = so_far.accrued.get(component, 0) - billed.micros[component]
        amount_minor = net_minor - billed.minor[component]
        if micros or amount_minor:
            lines.append(Due(component, micros, amount_minor))
    return lines


def standing(organization_id: int, month: date) -> QuerySet[InterimInvoice]:
    """Return the interim invoices of a month that bill something: all but the void ones, in order."""
    made = InterimInvoice.objects.filter(organization_id=organization_id, month=month)
    return made.exclude(state=State.VOID).select_related("invoice").order_by("first_sequence")


def billed(organization_id: int, month: date, *, before: int | None = None) -> Billed:
    """Return what the interim invoices of a month bill; with `before`, only those that end before that sequence."""
    invoices = standing(organization_id, month)
    if before is not None:
        invoices = invoices.filter(last_sequence__lt=before)
    lines = InterimLine.objects.filter(organization_id=organization_id, interim__in=invoices.values("pk"))
    rows = lines.order_by("component").values_list("component").annotate(Sum("micros"), Sum("amount_minor"))
    result = Billed()
    for component, micros, minor in rows:
        result.micros[component], result.minor[component] = int(micros), int(minor)
    return result


def rederived(interim: InterimInvoice) -> list[Due]:
    """Return what the interim invoice should bill, by the settlements it covers and those before it."""
    position = totals.Position(interim.last_sequence, interim.last_transaction_id)
    so_far = totals.month(interim.organization_id, interim.month, through=position)
    earlier = billed(interim.organization_id, interim.month, before=interim.first_sequence)
    return due(so_far, earlier, interim.currency)


# ── When one is due ───────────────────────────────────────────────────────────────────────────────────────────────────


def threshold_micros(account: Account) -> int:
    """Return how much on no invoice yet makes an interim invoice due: a share of what may be owed, never nothing."""
    return max(1, account.arrears_limit_micros * settings.INTERIM_INVOICE_AT_PERCENT // 100)


def uninvoiced(organization_id: int) -> dict[date, int]:
    """Return the micros accrued and on no invoice yet, for each month that is not closed."""
    return {
        month: totals.month(organization_id, month).accrued_micros - billed(organization_id, month).micros.total()
        for month in periods.open_months(organization_id)
    }


def write_if_due(organization_id: int, *, now: datetime) -> InterimInvoice | None:
    """Write an interim invoice if what is on no invoice yet has come near the arrears limit; None if it has not.

    One is open at a time, and one bills one month: the month with most to bill. Without a card there is nothing to
    charge, and without a customer at Stripe nobody.
    """
    if not _may_be_due().filter(organization_id=organization_id).exists():
        return None
    with transaction.atomic():
        account = accounts.lock(organization_id)
        is_open = InterimInvoice.objects.filter(organization_id=organization_id, state=State.OPEN).exists()
        if is_open or sum(uninvoiced(organization_id).values()) < threshold_micros(account):
            return None
        discounts.apply_to_open(account, now=now)
        waiting = uninvoiced(organization_id)
        if sum(waiting.values()) < threshold_micros(account):
            return None
        month = max(waiting, key=lambda month: (waiting[month], -month.toordinal()))
        return _write(account, month, now=now)


def near_the_limit(limit: int) -> list[int]:
    """Return organizations for which an interim invoice may be due: they owe enough, and have none open."""
    return list(_may_be_due().order_by("organization_id").values_list("organization_id", flat=True)[:limit])


def _may_be_due() -> QuerySet[Account]:
    """Return the accounts that owe enough, with or without an invoice, and can be charged; one indexed read of one."""
    of_account = {"organization_id": OuterRef("organization_id")}
    is_open = InterimInvoice.objects.filter(**of_account, state=State.OPEN)
    customer = Customer.objects.filter(**of_account, deleted_at=None, subscribed_at__isnull=False)
    return Account.objects.filter(
        ~Exists(is_open),
        Exists(customer),
        has_card=True,
        frozen_at=None,
        arrears_limit_micros__gt=0,
        accrued_micros__gte=F("arrears_limit_micros") * settings.INTERIM_INVOICE_AT_PERCENT / 100,
    )


def _write(account: Account, month: date, *, now: datetime) -> InterimInvoice:
    """Write an interim invoice for all settlements of a month that none covers yet, under the account's lock."""
    organization_id = account.organization_id
    covered = standing(organization_id, month).aggregate(last=Max("last_sequence"))["last"] or 0
    settled = Settlement.objects.filter(organization_id=organization_id, month=month, first_sequence__gt=covered)
    span = settled.aggregate(first=Min("first_sequence"), last=Max("last_sequence"))
    interim = InterimInvoice.objects.create(
        organization=account.organization,
        month=month,
        first_sequence=span["first"],
        last_sequence=span["last"],
        last_transaction=Transaction.objects.filter(organization_id=organization_id).latest("id"),
        currency=account.currency,
        written_at=now,
    )
    InterimLine.objects.bulk_create(
        InterimLine(
            organization=account.organization,
            interim=interim,
            component=line.component,
            micros=line.micros,
            amount_minor=line.amount_minor,
        )
        for line in rederived(interim)
    )
    periods.note_invoiced(organization_id, month, micros(interim))
    log.info(
        "interim invoice written", organization_id=organization_id, interim_id=interim.pk, month=str(month), **span
    )
    return interim


# ── What becomes of one ───────────────────────────────────────────────────────────────────────────────────────────────


def of_invoice(invoice: Invoice) -> InterimInvoice | None:
    """Return the interim invoice that stands behind a Stripe invoice, if one does."""
    return InterimInvoice.objects.filter(invoice=invoice).first()


def micros(interim: InterimInvoice) -> int:
    """Return the accrued micros that it bills."""
    return int(interim.lines.aggregate(sum=Sum("micros"))["sum"] or 0)


def link(interim: InterimInvoice, invoice: Invoice) -> None:
    """Keep which Stripe invoice it is, before anything is put on that."""
    InterimInvoice.objects.filter(pk=interim.pk, invoice=None).update(invoice=invoice)
    interim.refresh_from_db()


def follow(interim: InterimInvoice, state: str, *, now: datetime) -> None:
    """End it as its Stripe invoice ended. A void one gives its settlements back to the next invoice of their month."""
    if state in _ENDS:
        _end(interim, _ENDS[Invoice.State(state)], now=now)


def give_up(interim: InterimInvoice, *, now: datetime) -> None:
    """End one that never became an invoice: its settlements go to the next invoice of their month."""
    _end(interim, State.VOID, now=now)
    log.warning("interim invoice given up", organization_id=interim.organization_id, interim_id=interim.pk)


def _end(interim: InterimInvoice, state: InterimInvoice.State, *, now: datetime) -> None:
    with transaction.atomic():
        is_open = InterimInvoice.objects.filter(pk=interim.pk, state=State.OPEN)
        if is_open.update(state=state, ended_at=now, waiting_for="") and state == State.VOID:
            periods.note_invoiced(interim.organization_id, interim.month, -micros(interim))


def being_made(organization_id: int) -> InterimInvoice | None:
    """Return the organization's interim invoice that Stripe has not finalized yet, if there is one."""
    draft = Q(invoice=None) | Q(invoice__state=Invoice.State.DRAFT)
    made = InterimInvoice.objects.filter(draft, organization_id=organization_id, state=State.OPEN)
    return made.select_related("organization", "invoice").first()
