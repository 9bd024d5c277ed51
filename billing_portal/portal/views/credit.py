"""Credits: what is there, what is spent next, and every movement with the balances after it."""

from datetime import date, timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import invoices
from billing_portal.billing.models import Invoice
from billing_portal.ledger import authorization, balances, standing, statements
from billing_portal.ledger.models import Account, Check, Grant
from billing_portal.portal import arrears, credit_lots, credit_sales, discount_words
from billing_portal.portal.charts import balance_chart
from usage import periods

_CHART_DAYS = 90
# The last to be spent at the bottom, so that usage eats from the top.
_KINDS = [(kind.value, str(kind.label)) for kind in sorted(Grant.PRIORITIES, key=lambda kind: -Grant.PRIORITIES[kind])]


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def credits_page(request: OrganizationRequest) -> HttpResponse:
    """Show the balance, the lots in burn order, credit over time and a month's statement, which htmx gets alone."""
    now, organization = clock.now(), request.organization
    account = get_object_or_404(Account.objects.select_related("organization"), organization=organization)
    context = _statement(request, account)
    if request.htmx:
        return render(request, "portal/credits.html#statement", context)
    found = standing.of(organization.pk, now=now)
    balance = balances.balance(account, now=now)
    today = periods.day_of(now, organization.zone)
    starts_on = max(today - timedelta(days=_CHART_DAYS - 1), periods.day_of(account.opened_at, organization.zone))
    starts_on = min(starts_on, today - timedelta(days=6))
    context |= {
        "balance": balance,
        **authorization.both_ways(found),
        "arrears": arrears.of(organization),
        "has_card": found.has_card,
        "account": account,
        "lots": credit_lots.spendable(account, zone=organization.zone, now=now),
        "ended": credit_lots.ended(account, now=now),
        "lasts_until": credit_lots.lasts_until(account, balance.credit_micros, now=now),
        "chart": balance_chart.by_day(
            statements.credit_by_day(account, starts_on=starts_on, ends_on=today, zone=organization.zone),
            starts_on=starts_on,
            ends_on=today,
            currency=account.currency,
            series=_KINDS,
        ),
        **credit_sales.summary(organization, now=now),
        "discounts": discount_words.current(organization, today.replace(day=1)),
        "check": Check.objects.filter(organization=organization, differences=0).first(),
    }
    return render(request, "portal/credits.html", context)


def _statement(request: OrganizationRequest, account: Account) -> dict[str, Any]:
    """Return one month's statement and the way to the months before and after it."""
    zone, now = request.organization.zone, clock.now()
    newest, oldest = periods.month_of(now, zone), periods.month_of(account.opened_at, zone)
    month = _month(request.GET.get("month", ""), oldest=oldest, newest=newest)
    statement = statements.of_month(account, month, zone=zone, now=now)
    paid = _payments(request, statement)
    return {
        "currency": account.currency,
        "statement": statement,
        "is_running": month == newest,
        "lines": [(line, paid.get(line.transaction.pk) if line.transaction else None) for line in statement.lines],
        "ways": [
            *([_way(request, periods.previous_month(month), icon="chevron-left")] if month > oldest else []),
            *([_way(request, periods.next_month(month), icon_end="chevron-right")] if month < newest else []),
        ],
    }


def _month(text: str, *, oldest: date, newest: date) -> date:
    """Return the month an address names, as 2026-10; the newest for anything else."""
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        return newest
    return month if oldest <= month <= newest else newest


def _way(request: OrganizationRequest, month: date, **icons: str) -> dict[str, Any]:
    """Return a button to the statement of another month."""
    url = f"{reverse('credits', args=[request.organization.public_id])}?month={month:%Y-%m}"
    return {"month": month, "url": url, **icons}


def _payments(request: OrganizationRequest, statement: statements.Statement) -> dict[int, Invoice]:
    """Return the invoice that each payment of the statement was for, by the payment's transaction."""
    paid = {line.transaction.reference: line.transaction for line in statement.lines if line.transaction}
    ids = [reference.partition(":")[2] for reference in paid if reference.startswith("invoice:")]
    found = Invoice.objects.filter(organization=request.organization, stripe_invoice_id__in=ids) if ids else []
    return {paid[invoices.collect_reference(invoice)].pk: invoice for invoice in found}
