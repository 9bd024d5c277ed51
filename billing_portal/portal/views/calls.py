"""Calls: the list, filtered and in an order, and every call in it, down to its price."""

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import condition, require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settlement
from billing_portal.portal import call_choices, call_list, call_news, call_page, date_ranges, saved_views, usage_tabs
from billing_portal.portal.call_list import Filters
from usage import archived, arrivals, calls, charges, periods
from usage.charges import Charge


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def call_list_page(request: OrganizationRequest) -> HttpResponse:
    """Show the calls of some days, filtered, in an order; htmx gets the list alone, with its address."""
    organization = request.organization
    today = periods.day_of(clock.now(), organization.zone)
    days = date_ranges.of(request.GET, today)
    filters = Filters.of(request.GET, days=days, zone=organization.zone)
    here = reverse("calls", args=[organization.public_id])
    is_live = request.GET.get("live") != "off"
    # What is recorded from here on is news, also if the list has it already: better told twice than never.
    news = call_news.at_first(
        organization, filters, is_first_page="cursor" not in request.GET, today_shown=days.ends_on == today
    )
    since = call_list.number(request.GET.get("since", ""))
    page = call_list.page(organization, filters, cursor=request.GET.get("cursor", ""), since=since)
    context: dict[str, Any] = {
        "filters": filters,
        "days": days,
        "tabs": usage_tabs.of(organization, days, current="calls"),
        "calls": page.calls,
        "live": news if is_live else None,
        "live_switch": _live_switch(filters, here, is_live=is_live) if news else None,
        "archived": call_list.archived_months(organization, filters),
        "export_url": filters.address(reverse("exports", args=[organization.public_id])),
        "reset_url": f"{here}?days={days.name}" if days.name else f"{here}?from={days.starts_on}&to={days.ends_on}",
        "unsorted_above": page.unsorted_above,
        "first_url": filters.address(here) if page.is_later else "",
        "next_url": filters.address(here, cursor=page.next_cursor) if page.next_cursor else "",
        "searched": "Searched in part: go on for more" if page.is_partial else "",
        **_choices(organization, filters),
    }
    if request.htmx:
        response = render(request, "portal/calls.html#calls", context)
        response["HX-Push-Url"] = filters.address(
            here, cursor=request.GET.get("cursor", ""), live="" if is_live else "off"
        )
        return response
    context |= {"views": _views(request, filters, here), "query": urlencode(filters.parameters)}
    ranges = date_ranges.options(days, today, lambda named: _of_days(filters, here, named))
    return render(request, "portal/calls.html", context | {"ranges": ranges})


def _newest(request: OrganizationRequest) -> str:
    return f'"{arrivals.newest(request.organization.pk)}"'


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
@condition(etag_func=_newest)
def new_calls(request: OrganizationRequest) -> HttpResponse:
    """Tell an open list how many calls have come that it does not show; 304 while none has."""
    organization, query = request.organization, request.GET
    days = date_ranges.of(query, periods.day_of(clock.now(), organization.zone))
    filters = Filters.of(query, days=days, zone=organization.zone)
    newest = arrivals.newest(organization.pk)
    seen = call_list.number(query.get("seen", ""))
    news = call_news.since(organization, filters, seen=newest if seen is None else seen, newest=newest)
    response = render(request, "portal/_new_calls.html", {"live": news})
    response["Cache-Control"] = "private, no-cache"
    return response


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def call(request: OrganizationRequest, call_id: str) -> HttpResponse:
    """Show one call: its price line by line, who paid for it, its facts, and how it was corrected.

    One that is put away says so.
    """
    found = calls.find(request.organization.pk, call_id)
    if found is None:
        return _put_away(request, call_id)
    charge = charges.of(found)
    detail = calls.detail(found)
    all_revisions = calls.all_revisions(found)
    context: dict[str, Any] = {
        "call": found,
        "status_label": call_list.label(found.kind.status),
        "disconnection_label": call_list.label(found.kind.disconnection_reason),
        "detail": detail,
        "metadata": call_page.printable(detail.metadata) if detail else [],
        "charge": charge,
        "unrated": calls.unrated(found) if charge is None else None,
        "history": call_page.history(all_revisions) if found.revision > 1 else [],
    }
    if charge is not None:
        context["lines"] = [call_page.line(each, charge.currency) for each in charge.lines]
        made = [each for revision in all_revisions if (each := charges.of(revision))]
        context["funding"] = call_page.parts(
            *map(settlement.funding, made),
            given_back_micros=sum(each.given_back_micros for each in made if each.sequence),
        )
        context["invoice"] = _invoice(request.organization, charge)
    return render(request, "portal/call.html", context)


def _put_away(request: OrganizationRequest, call_id: str) -> HttpResponse:
    started_at = archived.started_at(request.organization.pk, call_id)
    if started_at is None:
        raise Http404("No such call.")
    context = {"call_id": call_id, "started_at": started_at}
    return render(request, "portal/call_archived.html", context, status=410)


def _invoice(organization: Organization, charge: Charge) -> Invoice | None:
    if charge.billed_month is None:
        return None
    invoices = Invoice.objects.filter(organization=organization, month=charge.billed_month)
    return invoices.exclude(state=Invoice.State.VOID).first()


def _choices(organization: Organization, filters: Filters) -> dict[str, Any]:
    """Return what the form offers; what is filtered by is always among it."""
    offered = call_choices.of(organization, filters.days)
    return {
        "product_choices": [(product, product) for product in sorted({*offered.products, filters.product} - {""})],
        "agent_choices": call_list.agent_choices(offered.agents, filters.agent),
        "key_choices": offered.keys,
        "status_choices": call_list.STATUSES,
        "direction_choices": call_list.DIRECTIONS,
        "order_choices": call_list.ORDERS,
    }


def _views(request: OrganizationRequest, filters: Filters, here: str) -> list[dict[str, Any]]:
    """Return the saved views as links, the one that is shown marked; none without any."""
    shown = urlencode(filters.parameters)
    saved = saved_views.named(request.membership)
    views = [{"label": name, "url": f"{here}?{query}", "current": query == shown} for name, query in saved]
    return [{"label": "All calls", "url": here, "current": shown == "days=30d"}, *views] if views else []


def _live_switch(filters: Filters, here: str, *, is_live: bool) -> dict[str, str]:
    if is_live:
        return {"label": "Pause", "icon": "pause", "url": filters.address(here, live="off")}
    return {"label": "Go live", "icon": "play", "url": filters.address(here)}


def _of_days(filters: Filters, here: str, named: dict[str, str]) -> str:
    return filters.address(here, **{"from": "", "to": "", **named})
