"""Disputes: what the customer says is billed wrongly, what was written about it, and what came of it."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute
from billing_portal.portal.dispute_forms import DisputeForm, MessageForm

_SHOWN = 200


@require_GET
@organization_view(Permission.VIEW_BILLING)
def disputes(request: OrganizationRequest) -> HttpResponse:
    """List the disputes, the newest first."""
    found = Dispute.objects.filter(organization=request.organization).order_by("-id")
    return render(request, "portal/disputes.html", {"disputes": list(found[:_SHOWN])})


@require_http_methods(["GET", "POST"])
@organization_view(Permission.MANAGE_BILLING)
def dispute_new(request: OrganizationRequest) -> HttpResponse:
    """Ask why a subject is disputed, and open the dispute. The address names the subject: `kind` and `reference`."""
    organization = request.organization
    kind, reference = request.GET.get("kind", ""), request.GET.get("reference", "")
    if not kind:
        return redirect("disputes", organization.public_id)
    try:
        subject = subjects.find(organization, kind, reference)
    except subjects.SubjectMissing as missing:
        raise Http404("No such page.") from missing
    if disputed := cases.of_subject(subject):
        return redirect("dispute", organization.public_id, disputed.public_id)
    most = cases.most_micros(subject)
    data = request.POST if request.method == "POST" else None
    form = DisputeForm(data, most_micros=most, currency=subject.currency)
    if form.is_valid():
        try:
            opened = _open(request, subject, form)
        except cases.NotDisputable as refused:
            form.add_error(None, str(refused))
        except cases.AlreadyOpen as known:
            return redirect("dispute", organization.public_id, known.dispute.public_id)
        else:
            messages.success(request, "The dispute is open. We have been told, and answer by mail and here.")
            return redirect("dispute", organization.public_id, opened.public_id)
    context = {"subject": subject, "subject_url": _url(request, subject), "most_micros": most, "form": form}
    return render(request, "portal/dispute_new.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def dispute(request: OrganizationRequest, dispute: UUID) -> HttpResponse:
    """Show one dispute with all that was written."""
    return _page(request, _found(request, dispute), MessageForm())


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def dispute_write(request: OrganizationRequest, dispute: UUID) -> HttpResponse:
    """Write to the vendor."""
    found, form = _found(request, dispute), MessageForm(request.POST)
    if not form.is_valid():
        return _page(request, found, form)
    said = form.cleaned_data
    try:
        cases.write(
            found, text=said["text"], by=request.user, from_vendor=False, public_id=said["key"], now=clock.now()
        )
    except cases.AlreadyDecided as decided:
        messages.info(request, f"{decided} Open another one, if something was left out.")
    else:
        messages.success(request, "Sent.")
    return redirect("dispute", request.organization.public_id, found.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def dispute_withdraw(request: OrganizationRequest, dispute: UUID) -> HttpResponse:
    """Give a dispute up."""
    found = _found(request, dispute)
    try:
        cases.withdraw(found, by=request.user, now=clock.now())
    except cases.AlreadyDecided as decided:
        messages.info(request, str(decided))
    else:
        messages.success(request, "Withdrawn. You can open it again at any time.")
    return redirect("dispute", request.organization.public_id, found.public_id)


def _open(request: OrganizationRequest, subject: subjects.Subject, form: DisputeForm) -> Dispute:
    return cases.open(
        organization=request.organization,
        kind=subject.kind,
        reference=subject.reference,
        reason=form.cleaned_data["reason"],
        text=form.cleaned_data["text"],
        claimed_micros=form.claimed_micros,
        public_id=form.cleaned_data["key"],
        by=request.user,
        now=clock.now(),
    )


def _page(request: OrganizationRequest, found: Dispute, form: MessageForm) -> HttpResponse:
    context: dict[str, Any] = {
        "dispute": found,
        "subject_url": _url(request, found),
        "thread": list(found.messages.select_related("author").order_by("id")),
        "now": clock.now(),
        "form": form,
    }
    return render(request, "portal/dispute.html", context)


def _found(request: OrganizationRequest, public_id: UUID) -> Dispute:
    disputes = Dispute.objects.select_related("opened_by")
    return get_object_or_404(disputes, public_id=public_id, organization=request.organization)


def _url(request: OrganizationRequest, subject: subjects.Subject | Dispute) -> str:
    """Return where the subject can be looked at; nothing where it has no page."""
    organization = request.organization.public_id
    if subject.kind == Dispute.Kind.CALL:
        return reverse("call", args=[organization, subject.reference])
    if subject.kind == Dispute.Kind.CONVERSATION:
        return reverse("conversation", args=[organization, subject.reference])
    if subject.kind == Dispute.Kind.INVOICE_LINE:
        return reverse("invoice_line", args=[organization, *subject.reference.split("/", 1)])
    if subject.kind == Dispute.Kind.COMPARISON:
        return reverse("comparison", args=[organization, subject.reference.partition("/")[0]])
    return ""
