"""Why it costs more or less than before: the whole change, and what is behind each of its steps."""

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.ledger.models import DISCOUNT
from billing_portal.portal import change_details, change_story, compared_periods, usage_tabs
from billing_portal.portal.date_ranges import Days
from usage import periods
from usage.causes import Cause


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def changes(request: OrganizationRequest) -> HttpResponse:
    """Show the change from one period to another, step by step."""
    organization = request.organization
    today = periods.day_of(clock.now(), organization.zone)
    compared = compared_periods.read(request.GET, today=today)
    here = reverse("changes", args=[organization.public_id])
    story = change_story.of(organization, compared, here=here)
    first_month = periods.month_of(organization.created_at, organization.zone)
    calls_at = reverse("calls", args=[organization.public_id])
    context: dict[str, Any] = {
        "story": story,
        "compared": compared,
        "tabs": usage_tabs.of(organization, Days(compared.after.starts_on, compared.after.ends_on), current="changes"),
        "choices": compared_periods.choices(here, compared, today=today, first_month=first_month),
        "products": change_details.all_products(
            story.explanation, compared, calls_at=calls_at, currency=organization.currency
        ),
        "usage_micros": story.explanation.micros,
        "today": today,
        "reset_url": here,
    }
    return render(request, "portal/changes.html", context)


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def change(request: OrganizationRequest, cause: str) -> HttpResponse:
    """Show what is behind one step: products, agents and credit, then and now, with their calls."""
    if cause not in change_story.WORDS:
        raise Http404("No such cause.")
    organization = request.organization
    compared = compared_periods.read(request.GET, today=periods.day_of(clock.now(), organization.zone))
    here = reverse("changes", args=[organization.public_id])
    story = change_story.of(organization, compared, here=here)
    context: dict[str, Any] = {
        "compared": compared,
        "words": change_story.WORDS[cause],
        "micros": story.parts.get(cause, 0),
        "back_url": f"{here}?{compared.query}" if compared.query else here,
        "rows": [],
    }
    if cause not in (change_story.CREDIT, DISCOUNT):
        context |= {
            "figure": change_details.FIGURES[Cause(cause)],
            "rows": change_details.products(
                story.explanation,
                compared,
                Cause(cause),
                calls_at=reverse("calls", args=[organization.public_id]),
                currency=organization.currency,
            ),
        }
    if cause in (Cause.VOLUME, Cause.DURATION):
        context["agents"] = change_details.agents(organization, compared, Cause(cause))
    if compared.is_billed and cause in (Cause.CORRECTIONS, change_story.CREDIT, DISCOUNT):
        context["credit"] = change_details.credit(organization, compared, cause)
    return render(request, "portal/change.html", context)
