"""Conversations: what became of them by type and day, the list, and why each was billed or was not."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, replica
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing.models import Dispute
from billing_portal.ledger import outcome_funding
from billing_portal.ledger.accounts import AccountFrozen, AccountMissing
from billing_portal.portal import conversation_list, conversation_page, date_ranges, usage_tabs
from billing_portal.portal.charts import frame, stacked
from billing_portal.portal.conversation_list import Filters
from billing_portal.portal.date_ranges import Days
from usage import periods
from usage.models import Conversation
from usage.outcomes import explanations, summaries


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def outcomes(request: OrganizationRequest) -> HttpResponse:
    """Show what some days' outcomes came to, by type and by day."""
    organization = request.organization
    today = periods.day_of(clock.now(), organization.zone)
    days = date_ranges.of(request.GET, today, default="month")
    found = summaries.of_days(organization.pk, starts_on=days.starts_on, ends_on=days.ends_on)
    here, list_url = (reverse(name, args=[organization.public_id]) for name in ("outcomes", "conversations"))
    labels = dict(frame.OUTCOMES)
    context: dict[str, Any] = {
        "days": days,
        "tabs": usage_tabs.of(organization, days, current="outcomes"),
        "ranges": date_ranges.options(days, today, lambda named: f"{here}?{urlencode(named)}"),
        "rows": [
            {
                "label": labels[each.outcome],
                "summary": each,
                "url": f"{list_url}?{urlencode(days.parameters | {'outcome': each.outcome})}",
            }
            for each in found
        ],
        "total": _total(found),
        "waiting": summaries.waiting(organization.pk),
        "chart": _chart(organization, days),
        "list_url": f"{list_url}?{urlencode(days.parameters)}",
        "waiting_url": f"{list_url}?{urlencode(days.parameters | {'funding': 'waiting'})}",
        "reversed_url": f"{list_url}?{urlencode(days.parameters | {'funding': 'given_back'})}",
    }
    return render(request, "portal/outcomes.html", context)


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def conversations(request: OrganizationRequest) -> HttpResponse:
    """Show the conversations that began on some days, filtered; htmx gets the list alone, with its address."""
    organization, now = request.organization, clock.now()
    today = periods.day_of(now, organization.zone)
    days = date_ranges.of(request.GET, today)
    filters = Filters.of(request.GET, days=days)
    here = reverse("conversations", args=[organization.public_id])
    page = conversation_list.page(organization, filters, cursor=request.GET.get("cursor", ""), now=now)
    context: dict[str, Any] = {
        "days": days,
        "filters": filters,
        "tabs": usage_tabs.of(organization, days, current="outcomes"),
        "ranges": date_ranges.options(
            days, today, lambda named: filters.address(here, **{"from": "", "to": "", **named})
        ),
        "page": page,
        "outcome_choices": conversation_list.OUTCOMES,
        "reason_choices": conversation_list.REASONS,
        "funding_choices": conversation_list.FUNDINGS,
        "reset_url": f"{here}?{urlencode(days.parameters)}",
        "first_url": filters.address(here) if page.is_later else "",
        "next_url": filters.address(here, cursor=page.next_cursor) if page.next_cursor else "",
    }
    if request.htmx:
        response = render(request, "portal/conversations.html#conversations", context)
        response["HX-Push-Url"] = filters.address(here, cursor=request.GET.get("cursor", ""))
        return response
    return render(request, "portal/conversations.html", context)


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def conversation(request: OrganizationRequest, conversation: str) -> HttpResponse:
    """Say why a conversation was billed, or was not."""
    organization = request.organization
    explained = explanations.explain(_conversation(request, conversation), now=clock.now())
    history = conversation_page.history(organization, explained.charges)
    context = {
        "conversation": explained.conversation,
        "explained": explained,
        "window": explanations.hours(explained.rules.window) if explained.rules else "",
        "history": history,
        "standing": next((each for each in history if each.charge.pk == explained.conversation.charge_id), None),
    }
    return render(request, "portal/conversation.html", context)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def dispute(request: OrganizationRequest, conversation: str) -> HttpResponse:
    """Give back at once what the rules clearly do not charge; lead to the form of disputes with anything else."""
    found = _conversation(request, conversation)
    try:
        is_given_back = outcome_funding.reconsider(found, now=clock.now())
    except (AccountFrozen, AccountMissing):
        is_given_back = False
    if is_given_back:
        messages.success(request, "You are right: by the rules this is not charged. It was given back at once.")
        return redirect("conversation", request.organization.public_id, found.reference)
    query = urlencode({"kind": Dispute.Kind.CONVERSATION, "reference": found.reference})
    return redirect(f"{reverse('dispute_new', args=[request.organization.public_id])}?{query}")


def _conversation(request: OrganizationRequest, reference: str) -> Conversation:
    found = None if "\0" in reference else explanations.find(request.organization.pk, reference)
    if found is None:
        raise Http404("No such conversation.")
    return found


def _chart(organization: Organization, days: Days) -> stacked.StackedChart:
    return stacked.by_day(
        summaries.by_day(organization.pk, starts_on=days.starts_on, ends_on=days.ends_on),
        starts_on=days.starts_on,
        ends_on=days.ends_on,
        currency="",
        series=frame.OUTCOMES,
    )


def _total(found: list[summaries.Summary]) -> summaries.Summary:
    sums = (sum(column) for column in zip(*(each[1:] for each in found), strict=True))
    return summaries.Summary("", *sums) if found else summaries.Summary("", 0, 0, 0, 0, 0)
