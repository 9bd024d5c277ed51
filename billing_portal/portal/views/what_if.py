"""What if: the organization's own months under another choice, computed call by call and kept to be compared."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, usage_tabs, what_if_pages
from billing_portal.portal.what_if_forms import WhatIfForm
from usage import periods, tasks
from usage.models import WhatIf
from usage.what_if import choices, jobs


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def what_ifs(request: OrganizationRequest) -> HttpResponse:
    """Show what may be chosen, and what was computed already; htmx asks for the latter alone."""
    return _page(request, None)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def what_if_new(request: OrganizationRequest) -> HttpResponse:
    """Compute a few calls at once, and have many computed; show the answer, or how far it is."""
    organization, now = request.organization, clock.now()
    form = _form(organization, request.POST)
    if not form.is_valid():
        return _page(request, form)
    try:
        asked = jobs.ask(
            organization=organization,
            by=request.user,
            choice=form.choice,
            most_months=form.cleaned_data["months"],
            now=now,
        )
    except choices.NotOffered as refused:
        form.add_error(refused.field, str(refused))
    except (choices.NothingChosen, jobs.NoUsage, jobs.TooManyUnderWay) as refused:
        form.add_error(None, str(refused))
    else:
        if asked.is_under_way and jobs.is_small(asked):
            jobs.run(asked.pk, clock=clock.now)
        elif asked.is_under_way:
            queueing.on_commit(tasks.rate_what_if, asked.pk)
        return redirect("what_if", organization.public_id, asked.public_id)
    return _page(request, form)


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def what_if(request: OrganizationRequest, what_if: UUID) -> HttpResponse:
    """Show one answer, by component and by month; while it is computed htmx asks for it again."""
    currency = request.organization.currency
    shown = what_if_pages.one(_found(request.organization, what_if), currency)
    if request.htmx and shown.what_if.is_under_way and request.GET.get("done") == str(shown.done):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)  # nothing new to show, or to read aloud
    context: dict[str, Any] = {"shown": shown}
    if shown.what_if.state == WhatIf.State.READY:
        context |= {
            "picture": what_if_pages.picture(shown, currency),
            "sentence": what_if_pages.sentence(shown, currency),
        }
    template = "portal/what_if.html"
    return render(request, f"{template}#answer" if request.htmx else template, context)


@require_GET
@organization_view(Permission.VIEW_USAGE)
def what_if_csv(request: OrganizationRequest, what_if: UUID) -> HttpResponse:
    """Answer the amounts by month and component as a file."""
    found = _found(request.organization, what_if)
    if found.state != WhatIf.State.READY:
        messages.info(request, "The file is there when all months are computed.")
        return redirect("what_if", request.organization.public_id, found.public_id)
    content = what_if_pages.as_csv(found, request.organization.currency)
    name = what_if_pages.file_name(request.organization, found)
    disposition = content_disposition_header(True, name) or "attachment"
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return HttpResponse(content, content_type="text/csv; charset=utf-8", headers=headers)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def what_if_remove(request: OrganizationRequest, what_if: UUID) -> HttpResponse:
    """Remove one; asking again computes it anew."""
    jobs.remove(_found(request.organization, what_if))
    messages.success(request, "The comparison is removed.")
    return redirect("what_ifs", request.organization.public_id)


def _page(request: OrganizationRequest, form: WhatIfForm | None) -> HttpResponse:
    shown = what_if_pages.of(request.organization)
    context: dict[str, Any] = {
        "shown": shown,
        "is_moving": any(each.what_if.is_under_way for each in shown),
        "days_kept": jobs.KEPT.days,
    }
    if request.htmx:
        return render(request, "portal/what_ifs.html#kept", context)
    today = periods.day_of(clock.now(), request.organization.zone)
    days = date_ranges.of(request.GET, today)
    context["tabs"] = usage_tabs.of(request.organization, days, current="what_ifs")
    context["form"] = form or _form(request.organization, None)
    context["has_usage"] = bool(jobs.months(request.organization, 1, now=clock.now()))
    return render(request, "portal/what_ifs.html", context)


def _form(organization: Organization, data: Any) -> WhatIfForm:
    offered = choices.offer(organization, now=clock.now())
    return WhatIfForm(data, offered=offered, currency=organization.currency)


def _found(organization: Organization, public_id: UUID) -> WhatIf:
    found = WhatIf.objects.filter(organization=organization, public_id=public_id).first()
    if found is None:
        raise Http404("No such comparison.")
    return found
