"""Limits & alerts: what a month may cost, what is held and refused, and who is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.models import Letter
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.ledger import alerts, authorization, limits, refusals, reservations, standing
from billing_portal.ledger.models import Alert
from billing_portal.portal import arrears, month_forecast
from billing_portal.portal.limit_forms import AlertsForm, CapForm

_PAGE_SIZE = 25
_HISTORY = 20
_OPEN_SHOWN = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def limits_page(request: OrganizationRequest) -> HttpResponse:
    """Show the cap, its overshoot, what is held, every refused call, the alerts and the forecast."""
    return _page(request)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def set_cap(request: OrganizationRequest) -> HttpResponse:
    """Put a cap in force; one that would stop usage at once has to be confirmed."""
    organization, now = request.organization, clock.now()
    form = CapForm(request.POST, currency=organization.currency, limit=limits.current(organization.pk))
    if not form.is_valid():
        return _page(request, cap_form=form)
    try:
        limits.set(
            organization.pk,
            form.terms(),
            by=request.user,
            now=now,
            even_if_usage_stops=form.cleaned_data["confirm"],
        )
    except limits.UsageWouldStop:
        form.asks_to_confirm = True
        form.add_error(None, "This month's usage is above that already: new calls would be refused at once.")
        return _page(request, cap_form=form)
    # What 100 % is has changed: the page they see now says where things stand.
    alerts.acknowledge(organization.pk, now=now)
    messages.success(request, "The cap is saved. It counts from now on.")
    return redirect("limits", organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def set_alerts(request: OrganizationRequest) -> HttpResponse:
    """Keep at what to tell whom."""
    organization = request.organization
    form = AlertsForm(request.POST, currency=organization.currency, terms=alerts.terms_of(organization.pk))
    if not form.is_valid():
        return _page(request, alerts_form=form)
    alerts.set(organization.pk, form.terms(), by=request.user, now=clock.now())
    messages.success(request, "Your alerts are saved.")
    return redirect("limits", organization.public_id)


def _page(
    request: OrganizationRequest, *, cap_form: CapForm | None = None, alerts_form: AlertsForm | None = None
) -> HttpResponse:
    organization, now = request.organization, clock.now()
    limit, terms = limits.current(organization.pk), alerts.terms_of(organization.pk)
    found = standing.of(organization.pk, now=now)
    held, held_count = reservations.held(organization.pk, limit=_OPEN_SHOWN)
    context = {
        **authorization.both_ways(found),
        "arrears": arrears.of(organization),
        "standing": found,
        "overshoot": limits.overshoot(found, now=now),
        "limit": limit,
        "cap_form": cap_form or CapForm(currency=organization.currency, limit=limit),
        "alerts_form": alerts_form or AlertsForm(currency=organization.currency, terms=terms),
        "alert_terms": terms,
        "held": [(each, left // timedelta(milliseconds=1)) for each, left in held],
        "held_count": held_count,
        "history": _history(organization.pk),
        "forecast": month_forecast.of(organization, found, now=now),
        **_refused(request, now),
    }
    return render(request, "portal/limits.html", context)


def _history(organization_id: int) -> list[dict[str, Any]]:
    """Return what was told, the newest first, and how many of its letters are on their way."""
    told = list(Alert.objects.filter(organization_id=organization_id, is_quiet=False).order_by("-id")[:_HISTORY])
    references = [alert.letter_reference for alert in told]
    letters = Letter.objects.filter(reference__in=references).values_list("reference", "sent_at")
    unsent = {reference for reference, sent_at in letters if sent_at is None}
    return [{"alert": alert, "is_sent": alert.letter_reference not in unsent} for alert in told]


def _refused(request: OrganizationRequest, now: datetime) -> dict[str, Any]:
    """Return one page of refused calls, and the way to the next."""
    before = _place(request.GET.get("before", ""))
    rows = refusals.newest(request.organization.pk, limit=_PAGE_SIZE + 1, before=before)
    here = reverse("limits", args=[request.organization.public_id])
    following = ""
    if len(rows) > _PAGE_SIZE:
        last = rows[_PAGE_SIZE - 1]
        following = f"{here}?before={(last.last_at - _EPOCH) // timedelta(microseconds=1)}-{last.pk}#refused"
    return {
        "refused": [(each, _REASONS.get(each.reason, each.reason)) for each in rows[:_PAGE_SIZE]],
        "refused_first": f"{here}#refused" if before else "",
        "refused_next": following,
        "unlisted": refusals.unlisted(request.organization.pk, since=now - timedelta(days=30)),
    }


_REASONS = {
    "suspended": "Account suspended",
    "frozen": "Books being looked at",
    "invoice_overdue": "Invoice not paid",
    "spend_cap": "Monthly cap",
    "credit_used_up": "Credit used up",
    "arrears_limit": "Owed too much",
}


def _place(text: str) -> tuple[datetime, int] | None:
    """Return the place that a paging link names; None for anything else."""
    at, _, pk = text.partition("-")
    if not (at.isascii() and at.isdigit() and pk.isascii() and pk.isdigit()) or len(at) > 16 or len(pk) > 18:
        return None
    return _EPOCH + timedelta(microseconds=int(at)), int(pk)
