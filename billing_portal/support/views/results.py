"""The results board: how well money comes in, by month, each figure with what it is made of; also as CSV."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.billing import minor_units, results
from billing_portal.ledger.models import Account
from billing_portal.support import amounts

_MONTHS = 12
_HEIGHT = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One month of a figure: how it reads, and as a bar of the picture."""

    month: str
    text: str
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over the months."""

    figure: results.Figure
    bars: list[Bar]


@require_GET
def board(request: PersonRequest) -> HttpResponse:
    """Show the last twelve months of one currency, or answer them as CSV."""
    if not request.user.has_perm("billing.view_invoice"):
        raise PermissionDenied
    now = clock.now()
    currencies = list(Account.objects.order_by("currency").values_list("currency", flat=True).distinct()) or ["USD"]
    asked = request.GET.get("currency", "")
    currency = asked if asked in currencies else ("USD" if "USD" in currencies else currencies[0])
    days = results.months(_MONTHS, now=now)
    found = [results.of_month(day, currency=currency, now=now) for day in days]
    names = [f"{day:%Y-%m}" for day in days]
    if request.GET.get("format") == "csv":
        return _csv(names, found, currency)
    context = {
        **admin.site.each_context(request),
        "title": "Results",
        "rows": [_row(each, names, [values[each.name] for values in found], currency) for each in results.FIGURES],
        "months": names,
        "currency": currency,
        "currencies": currencies,
        "hours": results.hours_without_difference(now=now),
    }
    return render(request, "staff/results.html", context)


def _row(figure: results.Figure, months: list[str], values: list[results.Value], currency: str) -> Row:
    sizes = [_size(value) for value in values]
    most = 100 if figure.unit == "percent" else max([1, *(size for size in sizes if size)])
    bars = []
    for month, value, size in zip(months, values, sizes, strict=True):
        height = round(_HEIGHT * size / most) if size else 0
        bars.append(Bar(month, _text(value, currency), _HEIGHT - height, height))
    return Row(figure, bars)


def _size(value: results.Value) -> float:
    """Return how large a value is drawn; nothing for none."""
    if isinstance(value, results.Share):
        return value.percent or 0
    return value.total_seconds() if isinstance(value, timedelta) else value or 0


def _text(value: results.Value, currency: str) -> str:
    if isinstance(value, results.Share):
        return "–" if value.percent is None else f"{value.percent:.1f} %"
    if isinstance(value, timedelta):
        return f"{value / timedelta(days=1):.1f} days"
    return "–" if value is None else amounts.amount(minor_units.to_micros(value, currency), currency)


def _csv(months: list[str], found: list[dict[str, results.Value]], currency: str) -> HttpResponse:
    """Answer one line a month and figure; a share with its two parts, as whole numbers."""
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="results-{currency.lower()}.csv"'
    lines = csv.writer(answer)
    lines.writerow(["month", "figure", "currency", "unit", "part", "whole", "definition"])
    lines.writerows(
        [month, figure.label, currency, *_parts(figure, values[figure.name]), figure.definition]
        for month, values in zip(months, found, strict=True)
        for figure in results.FIGURES
    )
    return answer


def _parts(figure: results.Figure, value: results.Value) -> Iterator[object]:
    if isinstance(value, results.Share):
        yield from (figure.unit, value.part, value.whole)
    elif isinstance(value, timedelta):
        yield from (figure.unit, f"{value / timedelta(days=1):.4f}", "")
    else:
        yield from (figure.unit, "" if value is None else value, "")
