"""Calls as files for programs: the list's filters, every call, streamed as the database copies them out."""

from typing import Any

from django.http import StreamingHttpResponse
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from accounts import replica
from billing_portal.billing import export_invoices
from usage.api import description, queries
from usage.api.keyed_views import KeyedView, organization_of
from usage.exports.formats import FORMATS


class _Streamed(BaseRenderer):
    """Lets a request ask for the type; the answer is never rendered."""

    charset = None

    def render(self, data: Any, *_: Any) -> Any:
        return data


class _Csv(_Streamed):
    media_type = "text/csv"
    format = "csv"


class _Jsonl(_Streamed):
    media_type = "application/x-ndjson"
    format = "jsonl"


class _ExportView(KeyedView):
    name: str

    def stream(self, request: Request) -> StreamingHttpResponse:
        query = queries.read(request.query_params, queries.FilterQuery)
        organization = organization_of(request, query)
        chosen = FORMATS[self.name]
        selection = export_invoices.selection(organization, queries.filters_of(query, organization.zone))
        return StreamingHttpResponse(
            replica.streamed(request, lambda: chosen.blocks(selection)),
            content_type=chosen.content_type,
            headers={"Cache-Control": "no-store"},
        )


class CallsCsvView(_ExportView):
    """Calls as CSV."""

    name = "csv"
    renderer_classes = [_Csv]

    @description.streams("export_calls_csv", query=queries.FilterQuery, content_type="text/csv", row="A line a call")
    def get(self, request: Request) -> StreamingHttpResponse:
        """Export calls as CSV, the earliest start first."""
        return self.stream(request)


class CallsJsonlView(_ExportView):
    """Calls as JSON Lines."""

    name = "jsonl"
    renderer_classes = [_Jsonl]

    @description.streams(
        "export_calls_jsonl",
        query=queries.FilterQuery,
        content_type="application/x-ndjson",
        row="A JSON object a line and call",
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Export calls as JSON Lines, the earliest start first."""
        return self.stream(request)
