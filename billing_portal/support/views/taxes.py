"""The tax report: a month by place and rate, and its documents as CSV for the filing partner."""

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.billing import minor_units
from billing_portal.billing.tax import report
from billing_portal.support import amounts
from usage import periods

_MONTHS = 12
_SHOWN = 500


@require_GET
def taxes(request: PersonRequest) -> HttpResponseBase:
    """Show one month (UTC), the last full one at first, or answer its documents as CSV."""
    if not request.user.has_perm("billing.view_invoicetax"):
        raise PermissionDenied
    this = periods.month_of(clock.now(), UTC)
    month = _month(request.GET.get("month", "")) or periods.previous_month(this)
    if request.GET.get("format") == "csv":
        return _csv(month)
    rows = list(report.rows(month))
    totals = [_texts(total) for total in report.totals(rows)]
    context = {
        **admin.site.each_context(request),
        "title": "Tax report",
        "month": month,
        "months": _months(this),
        "totals": totals,
        "rows": [_texts(row) for row in rows[:_SHOWN]],
        "more": max(0, len(rows) - _SHOWN),
        "unstored": report.unstored(month),
    }
    return render(request, "staff/taxes.html", context)


def _texts(each: report.Total | report.Row) -> dict[str, Any]:
    """Return a row or a total with its amounts as they are shown."""
    currency = each.currency if isinstance(each, report.Total) else each.invoice.currency
    shown = {
        name: amounts.amount(minor_units.to_micros(minor, currency), currency)
        for name, minor in (("net", each.net_minor), ("tax", each.tax_minor), ("gross", each.gross_minor))
    }
    tax = each if isinstance(each, report.Total) else each.tax
    words = {"rate": f"{tax.percent.normalize():f} %", "reason": tax.reason.replace("_", " ")}
    return {"row": each, **words, **shown}


def _months(this: date) -> list[date]:
    found = [this]
    while len(found) < _MONTHS:
        found.append(periods.previous_month(found[-1]))
    return found


def _month(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        return None


class _Echo:
    def write(self, text: str) -> str:
        return text


def _csv(month: date) -> StreamingHttpResponse:
    writer = csv.writer(_Echo())
    lines: Iterator[str] = (str(writer.writerow(line)) for line in report.lines(report.rows(month)))
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="tax-{month:%Y-%m}.csv"'
    return answer
