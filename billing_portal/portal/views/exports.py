"""Exports: choose a format for the calls of a list; a small file is answered at once, a large one is written first."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing, replica
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, PersonRequest, organization_view
from billing_portal.billing import export_invoices
from billing_portal.portal import call_list, date_ranges, export_links, export_list, tasks
from usage import periods
from usage.exports import formats, jobs
from usage.exports.formats import FORMATS, Format
from usage.exports.selection import Selection, Style
from usage.models import Export

_STREAMED_BLOCK = 256 * 1024


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def exports(request: OrganizationRequest) -> HttpResponse:
    """Show what would be exported, in which formats, and the files there are; htmx asks for the files alone."""
    shown = export_list.of(request.organization)
    files: dict[str, Any] = {"shown": shown, "is_moving": any(each.export.is_under_way for each in shown)}
    if request.htmx:
        return render(request, "portal/exports.html#files", files)
    filters = _asked(request.organization, request.GET)
    selection = export_invoices.selection(request.organization, filters.of_calls)
    count = selection.count(most=export_list.COUNTED)
    context = files | {
        "days": filters.days,
        "filters": export_list.in_words(filters),
        "archived": call_list.archived_months(request.organization, filters),
        "count": count,
        "is_more": count == export_list.COUNTED,
        "choices": export_list.choices(count),
        "carried": export_list.carried(request.GET),
    }
    return render(request, "portal/exports.html", context)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def export_new(request: OrganizationRequest) -> HttpResponseBase:
    """Answer a small file at once; have a large one written, and say so."""
    organization, name = request.organization, request.POST.get("format", "csv")
    if name not in FORMATS:
        messages.error(request, "Choose one of the formats.")
        return redirect("exports", organization.public_id)
    filters = _asked(organization, request.POST)
    selection = export_invoices.selection(organization, filters.of_calls)
    count = selection.count(most=export_list.COUNTED)
    if export_list.is_at_once(FORMATS[name], count):
        return _at_once(request, name, selection)
    try:
        asked = jobs.ask(
            organization=organization,
            by=request.user,
            name=name,
            filters=filters.of_calls,
            calls=count,
            now=clock.now(),
        )
    except (jobs.TooManyExports, jobs.TooManyCalls) as refused:
        messages.error(request, str(refused))
    else:
        queueing.on_commit(tasks.write_export, asked.pk)
        messages.success(request, f"The file is being written. A mail goes to {request.user.email} when it is ready.")
    return redirect("exports", organization.public_id)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def export_cancel(request: OrganizationRequest, export: UUID) -> HttpResponse:
    """Stop writing a file."""
    if jobs.cancel(_export(request.organization, export), now=clock.now()):
        messages.success(request, "The export is cancelled.")
    else:
        messages.info(request, "The export was over already.")
    return redirect("exports", request.organization.public_id)


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def export_file(request: OrganizationRequest, export: UUID) -> HttpResponseBase:
    """Answer a file that is ready."""
    found = _export(request.organization, export)
    if found.state != Export.State.READY or not jobs.path_of(found).exists():
        messages.error(request, "The file is not there, or not any more. Ask for it again.")
        return redirect("exports", request.organization.public_id)
    return _file(found)


@never_cache
@require_GET
@login_required
def export_link(request: PersonRequest, token: str) -> HttpResponseBase:
    """Answer the file that a mail's link names to members, until it expires."""
    found = export_links.find(token, user=request.user, now=clock.now())
    if not jobs.path_of(found).exists():
        raise Http404("No such file, or its time is over.")
    return _file(found)


def _asked(organization: Organization, query: QueryDict) -> call_list.Filters:
    days = date_ranges.of(query, periods.day_of(clock.now(), organization.zone))
    return call_list.Filters.of(query, days=days, zone=organization.zone)


def _export(organization: Organization, public_id: UUID) -> Export:
    found = Export.objects.select_related("organization").filter(organization=organization, public_id=public_id).first()
    if found is None:
        raise Http404("No such export.")
    return found


def _at_once(request: HttpRequest, name: str, selection: Selection) -> HttpResponseBase:
    chosen = FORMATS[name]
    file_name = export_list.name_of(selection.organization, selection.filters, chosen)
    content = replica.streamed(request, lambda: _content(name, selection))
    headers = {
        "Content-Disposition": content_disposition_header(True, file_name) or "attachment",
        "Cache-Control": "no-store",
    }
    return StreamingHttpResponse(content, content_type=chosen.content_type, headers=headers)


def _content(name: str, selection: Selection) -> Iterator[bytes]:
    chosen = FORMATS[name]
    return _written(name, selection) if chosen.style is Style.PLAIN else chosen.blocks(selection)


def _written(name: str, selection: Selection) -> Iterator[bytes]:
    """Yield a file that can only be written as a whole, from a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "export"
        formats.write(name, selection, path)
        with path.open("rb") as file:
            while block := file.read(_STREAMED_BLOCK):
                yield block


def _file(export: Export) -> FileResponse:
    chosen: Format = FORMATS[export.format]
    return FileResponse(
        jobs.path_of(export).open("rb"),
        as_attachment=True,
        filename=export_list.file_name(export),
        content_type=chosen.content_type,
    )
