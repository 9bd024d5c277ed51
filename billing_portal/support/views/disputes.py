"""What customers dispute: the queue by deadline, each thread, and the way to a decision."""

import uuid
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.billing import minor_units
from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute
from billing_portal.ledger.models import Account
from billing_portal.support.forms import AnswerForm
from billing_portal.support.models import StaffAction

_MAY_ANSWER = "support.add_staffaction"
_SHOWN = 200


@require_GET
def disputes(request: PersonRequest) -> HttpResponse:
    """List what waits for a decision, the first deadline first, and what was decided last."""
    _assert_may_see(request)
    ended = Dispute.objects.exclude(state=Dispute.State.OPEN).select_related("organization", "decided_by")
    context = {
        "title": "Disputes",
        "now": clock.now(),
        "waiting": cases.waiting()[:_SHOWN],
        "ended": ended.order_by("-decided_at", "-id")[:50],
    }
    return _page(request, "staff/disputes.html", context)


@require_GET
def dispute(request: PersonRequest, dispute: UUID) -> HttpResponse:
    """Show one dispute: what it is about, what was written, and what can be done."""
    _assert_may_see(request)
    return _dispute(request, _found(dispute), AnswerForm(initial={"key": uuid.uuid4()}))


@require_POST
def write(request: PersonRequest, dispute: UUID) -> HttpResponse:
    """Write to the customer."""
    if not request.user.has_perm(_MAY_ANSWER):
        raise PermissionDenied
    found, form = _found(dispute), AnswerForm(request.POST)
    if not form.is_valid():
        return _dispute(request, found, form)
    said = form.cleaned_data
    try:
        cases.write(found, text=said["text"], by=request.user, from_vendor=True, public_id=said["key"], now=clock.now())
    except cases.AlreadyDecided as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Sent. It is the customer's turn.")
    return redirect("staff_dispute", found.public_id)


def _dispute(request: PersonRequest, found: Dispute, form: AnswerForm) -> HttpResponse:
    same_organization = Dispute.objects.filter(organization_id=found.organization_id).exclude(pk=found.pk)
    context: dict[str, Any] = {
        "title": found.label,
        "dispute": found,
        "organization": found.organization,
        "account": get_object_or_404(Account, organization_id=found.organization_id),
        "now": clock.now(),
        "thread": list(found.messages.select_related("author").order_by("id")),
        "others": list(same_organization.order_by("-id")[:10]),
        "asked": StaffAction.objects.filter(
            organization_id=found.organization_id,
            state=StaffAction.State.WAITING,
            params__dispute=str(found.public_id),
        ).first(),
        "form": form,
        "may_answer": request.user.has_perm(_MAY_ANSWER),
        "claimed": _major(found.claimed_micros, found.currency),
    }
    try:
        context["most_micros"], context["was_corrected"] = cases.givable(found)
    except subjects.SubjectMissing:
        context["is_missing"] = True
    return _page(request, "staff/dispute.html", context)


def _major(micros: int, currency: str) -> str:
    """Return micros in the major unit, as a form takes them: what is below the minor unit is left out."""
    digits = minor_units.exponent(currency)
    minor = micros // minor_units.micros_per_unit(currency)
    return f"{minor // 10**digits}.{minor % 10**digits:0{digits}d}" if digits else str(minor)


def _found(public_id: UUID) -> Dispute:
    related = Dispute.objects.select_related("organization", "opened_by", "decided_by")
    return get_object_or_404(related, public_id=public_id)


def _assert_may_see(request: PersonRequest) -> None:
    if not (request.user.has_perm("billing.view_dispute") or request.user.has_perm(_MAY_ANSWER)):
        raise PermissionDenied


def _page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})
