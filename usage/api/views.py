"""The API's addresses: read the request, make one call, answer."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from django.http import HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from rest_framework.request import Request

from accounts import clock, replica
from accounts.problems import Problem
from usage import archived, calls, ingestion, periods, rollups
from usage.api import answers, bodies, description, queries
from usage.api.keyed_views import KeyedView, answer, not_found, organization_of, recorded


class CallsView(KeyedView):
    """Record calls, and list them."""

    @description.records("record_calls")
    def post(self, request: Request) -> HttpResponse:
        """Record calls."""
        return recorded(request, lambda body: _record(bodies.calls_of(request._request, body), request.auth.pk))

    @description.reads("list_calls", query=queries.CallsQuery, answer=answers.CallPage)
    @method_decorator(replica.reads)
    def get(self, request: Request) -> HttpResponse:
        """List calls, the latest start first unless asked otherwise."""
        query = queries.read(request.query_params, queries.CallsQuery)
        organization = organization_of(request, query)
        filters = queries.filters_of(query, organization.zone)
        order, after = calls.Order(query.order), queries.cursor_of(query.cursor)
        rows, following = calls.page(organization.pk, filters, order=order, after=after, limit=query.limit)
        items = answers.summaries(rows, organization.currency)
        away = archived.months(organization.pk, starts_at=filters.starts_at, ends_at=filters.ends_at)
        return answer(
            answers.CallPage(
                items, _address(request, following) if following else None, [f"{each.month:%Y-%m}" for each in away]
            )
        )


class CallView(KeyedView):
    """One call."""

    @description.reads("get_call", query=queries.OrganizationQuery, answer=answers.CallRecord, more=[HTTPStatus.GONE])
    def get(self, request: Request, call_id: str) -> HttpResponse:
        """Get one call with its price, line by line."""
        query = queries.read(request.query_params, queries.OrganizationQuery)
        organization = organization_of(request, query)
        call = None if "\x00" in call_id else calls.find(organization.pk, call_id)
        if call is None:
            if "\x00" not in call_id and archived.started_at(organization.pk, call_id):
                raise Problem(HTTPStatus.GONE, "archived", "The call's month is archived; sums and invoices count it")
            raise not_found()
        return answer(answers.call_record(call))


class UsageView(KeyedView):
    """Sums by day."""

    @description.reads("get_usage", query=queries.UsageQuery, answer=answers.UsageReport)
    @method_decorator(replica.reads)
    def get(self, request: Request) -> HttpResponse:
        """Get settled usage by day and component."""
        query = queries.read(request.query_params, queries.UsageQuery)
        organization = organization_of(request, query)
        days = queries.days_of(query, today=periods.day_of(clock.now(), organization.zone))
        return answer(
            answers.usage_report(
                organization,
                days,
                rollups.by_day(organization.pk, starts_on=days[0], ends_on=days[1]),
                rollups.total(organization.pk, starts_on=days[0], ends_on=days[1]),
            )
        )


def _record(items: Sequence[msgspec.Raw], api_key_id: int) -> HttpResponse:
    return answer(answers.recorded(ingestion.record(items, now=clock.now(), api_key_id=api_key_id)))


def _address(request: Request, cursor: calls.Cursor) -> str:
    """Return the address of the page that begins behind the cursor, with the same filters."""
    parameters = request.query_params.copy()
    parameters["cursor"] = queries.text_of(cursor)
    return request.build_absolute_uri(f"{reverse('api-calls')}?{parameters.urlencode()}")
