"""The page one comes to first: this month, what is left, where it goes."""

from datetime import timedelta

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import interims
from billing_portal.ledger import authorization, balances, standing, totals
from billing_portal.ledger.models import Account
from billing_portal.portal import arrears, call_list, month_forecast, usage_figures
from billing_portal.portal.charts import sparkline
from usage import periods, rollups
from usage.outcomes import summaries

_DAYS = 30
_LATEST = 8


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def overview(request: OrganizationRequest) -> HttpResponse:
    """Show this month's figures, the last 30 days, and the latest calls."""
    now, organization = clock.now(), request.organization
    account = get_object_or_404(Account.objects.select_related("organization"), organization=organization)
    found = standing.of(organization.pk, now=now)
    today = periods.day_of(now, organization.zone)
    month = today.replace(day=1)
    figures = usage_figures.of(organization, starts_on=today - timedelta(days=_DAYS - 1), ends_on=today)
    month_totals = totals.month(organization.pk, month)
    invoiced_micros = interims.billed(organization.pk, month).micros.total()
    context = {
        "month": month,
        "gross_micros": month_totals.gross_micros,
        "burnt_micros": month_totals.burnt_micros,
        "invoiced_micros": invoiced_micros,
        "uninvoiced_micros": month_totals.accrued_micros - invoiced_micros,
        "calls": rollups.total(organization.pk, starts_on=month, ends_on=today).calls,
        "outcomes": sum(each.outcomes for each in summaries.of_days(organization.pk, starts_on=month, ends_on=today)),
        "balance": balances.balance(account, now=now),
        **authorization.both_ways(found),
        "arrears": arrears.of(organization),
        "has_card": found.has_card,
        "forecast": month_forecast.of(organization, found, now=now),
        "chart": figures.chart,
        "shares": figures.shares,
        "line": sparkline.of([column.micros for column in figures.chart.columns]),
        "latest": call_list.latest(organization, limit=_LATEST),
    }
    return render(request, "portal/overview.html", context)
