"""One's own log beside ours: sent, its columns chosen, compared, fetched class by class, and disputed."""

from collections.abc import Iterator
from datetime import date, timedelta
from http import HTTPStatus
from pathlib import PurePath
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, usage_tabs
from billing_portal.portal.comparison_forms import ColumnsForm, UploadForm
from usage import periods, tasks
from usage.comparisons import jobs
from usage.comparisons.customer_logs import LogUnreadable
from usage.models import Comparison

State, Class = Comparison.State, Comparison.Class
_SHOWN, _ROWS = 50, 10
_WHAT = {
    Class.EXACT: "The same duration and price in both logs.",
    Class.WITHIN: "Apart by no more than the tolerance.",
    Class.MISMATCH: "In both logs, and apart by more than the tolerance.",
    Class.MISSING_HERE: "In your log alone: never told to us, and not charged.",
    Class.MISSING_THERE: "In our log alone: charged, and not in your file.",
}
_TONES = {Class.EXACT: "good", Class.WITHIN: "good"}
_DISPUTABLE = {Class.MISMATCH, Class.MISSING_THERE}


@require_GET
@organization_view(Permission.VIEW_USAGE)
def comparisons(request: OrganizationRequest) -> HttpResponse:
    """Show where to send a log, and what was compared already."""
    return _list(request, UploadForm(days=_days(request)))


@require_POST
@organization_view(Permission.VIEW_USAGE)
def comparison_new(request: OrganizationRequest) -> HttpResponse:
    """Keep a log, and ask what its columns mean."""
    form = UploadForm(request.POST, request.FILES, days=_days(request))
    if form.is_valid():
        sent = form.cleaned_data
        try:
            kept = jobs.upload(
                sent["file"].chunks(),
                organization=request.organization,
                by=request.user,
                name=PurePath(sent["file"].name).name,
                starts_date=sent["starts_date"],
                ends_date=sent["ends_date"],
                now=clock.now(),
            )
        except LogUnreadable as refused:
            form.add_error("file", str(refused))
        except jobs.NotComparable as refused:
            form.add_error("ends_date", str(refused))
        else:
            return redirect("comparison", request.organization.public_id, kept.public_id)
    return _list(request, form)


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def comparison(request: OrganizationRequest, comparison: UUID) -> HttpResponse:
    """Show one: its columns to be chosen, how far it is, or what came of it; htmx asks for the latter two alone."""
    found = _found(request, comparison)
    if request.htmx and found.is_under_way and request.GET.get("done") == str(found.rows_done):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)  # nothing new to show, or to read aloud
    return _page(request, found)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def comparison_start(request: OrganizationRequest, comparison: UUID) -> HttpResponse:
    """Compare with the columns that were chosen; once, whatever is sent again."""
    found = _found(request, comparison)
    form = ColumnsForm(request.POST, comparison=found, suggested=jobs.suggested(found))
    if not form.is_valid():
        return _page(request, found, form)
    try:
        chosen = jobs.choose(
            found, form.columns, tolerance_ms=form.tolerance_ms, tolerance_micros=form.tolerance_micros
        )
    except jobs.NotComparable as refused:
        form.add_error(None, str(refused))
        return _page(request, found, form)
    if chosen.is_under_way:
        queueing.on_commit(tasks.compare, chosen.pk)
    return redirect("comparison", request.organization.public_id, found.public_id)


@require_GET
@organization_view(Permission.VIEW_USAGE)
def comparison_csv(request: OrganizationRequest, comparison: UUID, name: str) -> HttpResponseBase:
    """Answer the calls of one class as a file."""
    found = _found(request, comparison)
    if name not in Class.values or found.state != State.READY:
        raise Http404("No such file.")
    try:
        file = jobs.path_of(found, name).open("rb")
    except OSError as gone:
        raise Http404("No such file.") from gone
    stem = PurePath(found.name).stem
    return FileResponse(
        file,
        as_attachment=True,
        filename=f"{stem}-{name.replace('_', '-')}.csv",
        content_type="text/csv; charset=utf-8",
        headers={"Cache-Control": "no-store"},
    )


@require_POST
@organization_view(Permission.VIEW_USAGE)
def comparison_remove(request: OrganizationRequest, comparison: UUID) -> HttpResponse:
    """Remove a log and its files now."""
    jobs.remove_files(_found(request, comparison))
    messages.success(request, "Your file and what was made of it are removed. The totals stay.")
    return redirect("comparisons", request.organization.public_id)


def _list(request: OrganizationRequest, form: UploadForm) -> HttpResponse:
    organization = request.organization
    kept = Comparison.objects.filter(organization=organization).order_by("-asked_at", "-id")
    days = date_ranges.of(request.GET, periods.day_of(clock.now(), organization.zone))
    context = {
        "tabs": usage_tabs.of(organization, days, current="comparisons"),
        "form": form,
        "comparisons": list(kept[:_SHOWN]),
        "days_kept": jobs.KEPT.days,
    }
    return render(request, "portal/comparisons.html", context)


def _page(request: OrganizationRequest, found: Comparison, form: ColumnsForm | None = None) -> HttpResponse:
    context: dict[str, Any] = {"comparison": found, "classes": list(_classes(found)), "faults": found.faults[:_ROWS]}
    if found.state in {State.MAPPING, State.FAILED}:
        suggested = jobs.suggested(found)
        context["form"] = form or ColumnsForm(comparison=found, suggested=suggested)
    template = "portal/comparison.html"
    return render(request, f"{template}#answer" if request.htmx else template, context)


def _classes(found: Comparison) -> Iterator[dict[str, Any]]:
    """Yield what the page says of each class; nothing before it is ready."""
    for name, total in jobs.totals(found).items():
        of_class = Class(name)
        is_odd = of_class not in _TONES and total.calls > 0
        yield {
            "name": name,
            "label": of_class.label,
            "what": _WHAT[of_class],
            "tone": _TONES.get(of_class, "warn" if is_odd else "good"),
            "total": total,
            "rows": jobs.first_calls(found, name, _ROWS) if is_odd and found.state == State.READY else [],
            "reference": f"{found.public_id}/{name}" if of_class in _DISPUTABLE and total.at_stake_micros else "",
        }


def _days(request: OrganizationRequest) -> tuple[date, date]:
    """Return the month that the address names, or the last one that is over."""
    organization: Organization = request.organization
    asked = request.GET.get("month", "")
    try:
        month = date.fromisoformat(f"{asked}-01")
    except ValueError:
        month = periods.previous_month(periods.month_of(clock.now(), organization.zone))
    return month, periods.next_month(month) - timedelta(days=1)


def _found(request: OrganizationRequest, public_id: UUID) -> Comparison:
    kept = Comparison.objects.select_related("organization")
    return get_object_or_404(kept, organization=request.organization, public_id=public_id)
