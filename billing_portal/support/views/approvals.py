"""What waits for a second member of staff, and what was decided."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.ledger import accounts
from billing_portal.support import actions, kinds
from billing_portal.support.forms import DecisionForm
from billing_portal.support.models import StaffAction

State = StaffAction.State
_MAY_DECIDE = "support.decide_staffaction"
_REFUSALS = (actions.SamePerson, actions.AlreadyDecided, actions.Refused, accounts.AccountFrozen)


@require_GET
def approvals(request: PersonRequest) -> HttpResponse:
    """List what waits, the oldest first, and what was decided last."""
    _assert_may_see(request)
    asked = StaffAction.objects.filter(needs_approval=True).select_related("organization", "asked_by", "decided_by")
    context = {
        "title": "Approvals",
        "waiting": _with_kinds(asked.filter(state=State.WAITING).order_by("asked_at", "id")),
        "decided": _with_kinds(asked.exclude(state=State.WAITING).order_by("-id")[:50]),
    }
    return _page(request, "staff/approvals.html", context)


@require_GET
def approval(request: PersonRequest, action: UUID) -> HttpResponse:
    """Show one thing asked for, with what it would do now."""
    _assert_may_see(request)
    return _approval(request, action, DecisionForm())


@require_POST
def approve(request: PersonRequest, action: UUID) -> HttpResponse:
    """Do what another person asked for."""
    _assert_may_decide(request)
    found = get_object_or_404(StaffAction.objects.select_related("organization"), public_id=action)
    try:
        actions.approve(action, by=request.user, now=clock.now())
    except _REFUSALS as refused:
        messages.error(request, str(refused))
        return redirect("staff_approval", action)
    messages.success(request, f"{kinds.named(found.kind).label}: approved and done.")
    return redirect("staff_organization", found.organization.public_id)


@require_POST
def decline(request: PersonRequest, action: UUID) -> HttpResponse:
    """Refuse what another person asked for, with a reason."""
    _assert_may_decide(request)
    form = DecisionForm(request.POST)
    get_object_or_404(StaffAction, public_id=action)
    if not form.is_valid():
        return _approval(request, action, form)
    try:
        actions.decline(action, by=request.user, reason=form.cleaned_data["reason"], now=clock.now())
    except _REFUSALS as refused:
        messages.error(request, str(refused))
        return redirect("staff_approval", action)
    messages.success(request, "Declined. Nothing was changed.")
    return redirect("staff_approvals")


@require_POST
def withdraw(request: PersonRequest, action: UUID) -> HttpResponse:
    """Take back what one asked for oneself."""
    _assert_may_see(request)
    get_object_or_404(StaffAction, public_id=action, asked_by=request.user)
    try:
        actions.withdraw(action, by=request.user)
    except actions.AlreadyDecided as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "Withdrawn. Nothing was changed.")
    return redirect("staff_approvals")


def _approval(request: PersonRequest, public_id: UUID, form: DecisionForm) -> HttpResponse:
    related = StaffAction.objects.select_related("organization__account", "asked_by", "decided_by")
    found = get_object_or_404(related, public_id=public_id)
    kind = kinds.named(found.kind)
    context: dict[str, Any] = {
        "title": kind.label,
        "action": found,
        "kind": kind,
        "organization": found.organization,
        "is_own": found.asked_by_id == request.user.pk,
        "may_decide": request.user.has_perm(_MAY_DECIDE),
        "form": form,
    }
    if found.state == State.WAITING:
        try:
            context["changes"] = kind.preview(found.organization.account, found.params, now=clock.now())
        except actions.Refused as refused:
            context["refusal"] = str(refused)
    return _page(request, "staff/approval.html", context)


def _with_kinds(found: Any) -> list[tuple[StaffAction, kinds.Kind | None]]:
    return [(each, kinds.ALL.get(each.kind)) for each in found]


def _assert_may_see(request: PersonRequest) -> None:
    if not (request.user.has_perm("support.view_staffaction") or request.user.has_perm(_MAY_DECIDE)):
        raise PermissionDenied


def _assert_may_decide(request: PersonRequest) -> None:
    if not request.user.has_perm(_MAY_DECIDE):
        raise PermissionDenied


def _page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})
