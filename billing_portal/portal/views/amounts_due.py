"""What an invoice's amount due is for: by agent, model, day or metadata, to the cent, on a page and as files."""

import csv
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import amounts_due, amounts_due_tasks
from billing_portal.billing.amounts_due import Row
from billing_portal.billing.models import Invoice
from usage import formulas
from usage.shares import Grouping

_LABELS = {Grouping.AGENT: "Agent", Grouping.MODEL: "Model", Grouping.DAY: "Day"}
_WITHOUT = {Grouping.AGENT: "No agent named", Grouping.MODEL: "No language model", Grouping.METADATA: "No value"}


@never_cache
@require_GET
@organization_view(Permission.VIEW_BILLING)
def amount_due(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show what the amount due is for, by one grouping; where it takes long, htmx asks again."""
    found, grouping, key = _asked(request, invoice)
    rows = amounts_due_tasks.rows(found, grouping, key, now=clock.now())
    if request.htmx and rows is None:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    here = reverse("amount_due", args=[request.organization.public_id, found.public_id])
    context: dict[str, Any] = {
        "invoice": found,
        "rows": rows,
        "calls": sum(row.calls for row in rows or ()),
        "grouping": grouping,
        "grouping_label": key or _LABELS.get(grouping, ""),
        "without": _WITHOUT.get(grouping, ""),
        "options": [_option(here, each, "", grouping, key) for each in _LABELS]
        + [_option(here, Grouping.METADATA, each, grouping, key) for each in amounts_due.keys_of(found)],
        "query": urlencode({"by": grouping, "key": key} if key else {"by": grouping}),
    }
    template = "portal/amount_due.html"
    return render(request, f"{template}#answer" if request.htmx else template, context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def amount_due_csv(request: OrganizationRequest, invoice: UUID) -> HttpResponse | StreamingHttpResponse:
    """Answer it as a file: a row a value, or with `by=call` a row a call."""
    if request.GET.get("by") == "call":
        found = _invoice(request, invoice)
        return _file(f"{found}-by-call.csv", _call_lines(found))
    found, grouping, key = _asked(request, invoice)
    rows = amounts_due_tasks.rows(found, grouping, key, now=clock.now())
    if rows is None:
        raise Http404("It is being computed.")
    return _file(f"{found}-by-{key or grouping}.csv", _lines(found, rows))


def _lines(invoice: Invoice, rows: list[Row]) -> Iterator[list[object]]:
    yield ["value", "kind", "currency", "calls", "usage_micros", "amount_due_micros", "amount_due_minor"]
    for row in rows:
        amounts = [row.usage_micros, row.due_micros, row.due_minor]
        yield [formulas.guarded(row.label), row.kind, invoice.currency, row.calls, *amounts]


def _call_lines(invoice: Invoice) -> Iterator[list[object]]:
    yield ["number", "call_id", "started_at", "currency", "usage_micros", "amount_due_micros"]
    for number, call_id, started_at, usage_micros, due_micros in amounts_due.by_call(invoice):
        yield [number, formulas.guarded(call_id), started_at, invoice.currency, usage_micros, due_micros]


class _Echo:
    def write(self, text: str) -> str:
        return text


def _file(name: str, lines: Iterator[list[object]]) -> StreamingHttpResponse:
    writer = csv.writer(_Echo(), lineterminator="\r\n")
    headers = {"Content-Disposition": content_disposition_header(True, name) or "", "Cache-Control": "no-store"}
    content = (str(writer.writerow(line)) for line in lines)
    return StreamingHttpResponse(content, content_type="text/csv; charset=utf-8", headers=headers)


def _option(here: str, grouping: Grouping, key: str, shown: Grouping, shown_key: str) -> dict[str, Any]:
    query = urlencode({"by": grouping, "key": key} if key else {"by": grouping})
    current = (grouping, key) == (shown, shown_key)
    return {"label": key or _LABELS[grouping], "url": f"{here}?{query}", "current": current}


def _asked(request: OrganizationRequest, invoice: UUID) -> tuple[Invoice, Grouping, str]:
    """Return what was asked for; 404 for what cannot be."""
    found = _invoice(request, invoice)
    try:
        grouping = Grouping(request.GET.get("by", Grouping.AGENT))
    except ValueError as error:
        raise Http404("No such page.") from error
    key = request.GET.get("key", "") if grouping is Grouping.METADATA else ""
    if grouping is Grouping.METADATA and key not in amounts_due.keys_of(found):
        raise Http404("No such page.")
    return found, grouping, key


def _invoice(request: OrganizationRequest, public_id: UUID) -> Invoice:
    invoices = Invoice.objects.select_related("organization")
    found = get_object_or_404(invoices, public_id=public_id, organization=request.organization)
    if not amounts_due.is_final(found):
        raise Http404("No such page.")
    return found
