"""The desk page of an organization: its money at a glance, what staff did, and what they can do.

An action takes three steps: a form, a preview of what will happen, the confirmation. Only the last changes anything.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts import clock
from accounts.models import Organization
from accounts.organization_view import PersonRequest
from billing_portal.billing import bad_debts, discounts
from billing_portal.billing.models import Overdue, PaymentAttempt
from billing_portal.ledger import accounts, balances, credits, totals
from billing_portal.ledger.models import Account, Check, Finding
from billing_portal.support import actions, kinds
from billing_portal.support.forms import ReasonForm
from billing_portal.support.kinds import debt, numbers
from billing_portal.support.kinds.discounts import told
from billing_portal.support.models import StaffAction
from usage import completeness, periods

_MAY_ASK = "support.add_staffaction"


@require_GET
def organization(request: PersonRequest, organization: UUID) -> HttpResponse:
    """Show an organization's money, what staff did to it, and what they can do."""
    if not request.user.has_perm("accounts.view_organization"):
        raise PermissionDenied
    found, now = _organization(organization), clock.now()
    account = _account(found)
    months = [(month, totals.month(found.pk, month).accrued_micros) for month in debt.open_months(account)]
    done = StaffAction.objects.filter(organization=found).select_related("asked_by", "decided_by")
    context = {
        "title": found.name,
        "organization": found,
        "account": account,
        "balance": balances.balance(account, now=now),
        "grants": list(credits.spendable(account, now=now)),
        "months": [(month, micros) for month, micros in months if micros],
        "unpaid": [(invoice, bad_debts.owed_micros(invoice, now=now)) for invoice in debt.unpaid(account)[:50]],
        "overdue": [(each, each.stops_at <= now) for each in _overdue(found)],
        "attempts": list(PaymentAttempt.objects.filter(organization=found).select_related("invoice")[:10]),
        "discounts": [(told(each), each) for each in discounts.current(found.pk, periods.month_of(now, found.zone))],
        "undoable": list(debt.undoable(account).prefetch_related("entries")[:20]),
        "check": Check.objects.filter(organization=found).first(),
        "seal": completeness.seal(found.pk, now=now),
        "gaps": [(source, gap, numbers.name_of(source, gap)) for source, gap in numbers.gaps_of(account, now=now)[:20]],
        "findings": list(Finding.objects.filter(organization=found, resolved_at=None)[:20]),
        "staff_actions": [(each, kinds.ALL.get(each.kind)) for each in done[:50]],
        "may_ask": request.user.has_perm(_MAY_ASK),
    }
    return _page(request, "staff/organization.html", context)


@require_http_methods(["GET", "POST"])
def action(request: PersonRequest, organization: UUID, kind: str) -> HttpResponse:
    """Ask for an action, show what it would do, and when that is confirmed, do it or have it wait for approval."""
    if not request.user.has_perm(_MAY_ASK):
        raise PermissionDenied
    chosen = kinds.ALL.get(kind)
    if chosen is None:
        raise Http404("No such action.")
    found, now = _organization(organization), clock.now()
    account = _account(found)
    data = request.POST if request.method == "POST" else None
    form = chosen.form(data, account=account, now=now, initial=request.GET.dict())
    why = ReasonForm(data)
    context: dict[str, Any] = {
        "title": chosen.label,
        "organization": found,
        "account": account,
        "kind": chosen,
        "form": form,
        "why": why,
    }
    if data is None or not (form.is_valid() & why.is_valid()) or data.get("step") == "edit":
        return _page(request, "staff/action.html", context)
    asked: dict[str, Any] = {
        "kind": chosen,
        "organization": found,
        "params": form.params(),
        "by": request.user,
        "now": now,
    }
    try:
        if data.get("step") == "confirm":
            return _confirmed(
                request, actions.ask(reason=why.cleaned_data["reason"], public_id=why.cleaned_data["key"], **asked)
            )
        context["preview"] = actions.preview(**asked)
    except (actions.Refused, actions.FormReused, accounts.AccountFrozen) as refused:
        form.add_error(None, str(refused))
        return _page(request, "staff/action.html", context)
    return _page(request, "staff/action_preview.html", context)


def _confirmed(request: PersonRequest, done: StaffAction) -> HttpResponse:
    label = kinds.named(done.kind).label
    if done.state == StaffAction.State.WAITING:
        messages.warning(request, f"{label}: this is above what one person may do alone. A second one has been asked.")
    else:
        messages.success(request, f"{label}: done. The customer sees it with your reason.")
    return redirect("staff_organization", done.organization.public_id)


def _overdue(organization: Organization) -> QuerySet[Overdue]:
    return Overdue.objects.filter(organization=organization, ended_at=None).select_related("invoice")[:20]


def _organization(public_id: UUID) -> Organization:
    return get_object_or_404(Organization, public_id=public_id)


def _account(organization: Organization) -> Account:
    return get_object_or_404(Account.objects.select_related("organization"), organization=organization)


def _page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})
