"""Seats, and the spend that moves from them to outcomes and back."""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import seat_tasks, seats
from billing_portal.billing.models import SeatMonth, SeatMove, SeatPlan
from billing_portal.ledger.accounts import AccountFrozen
from usage import periods


class SeatsForm(forms.Form):
    """How many seats to keep, and the key that makes a double submit one move."""

    seats = forms.IntegerField(label="Seats to keep", min_value=0)
    key = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, plan: SeatPlan) -> None:
        super().__init__(data)
        self.fields["seats"].help_text = f"Of {plan.base_seats} that were sold. The spend of the others buys outcomes."


@never_cache
@require_GET
@organization_view(Permission.VIEW_BILLING)
def seats_page(request: OrganizationRequest) -> HttpResponse:
    """Show the seats and the outcomes of the month, and with `?seats=` both sides of a change beforehand."""
    plan = _plan(request.organization)
    form = SeatsForm(request.GET if "seats" in request.GET else None, plan=plan) if plan else None
    return _page(request, plan, form)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def move(request: OrganizationRequest) -> HttpResponse:
    """Ask for the change that was previewed."""
    plan = _plan(request.organization)
    if plan is None or plan.detached_at is not None:
        raise Http404("No seats.")
    form = SeatsForm(request.POST, plan=plan)
    if not form.is_valid() or form.cleaned_data["key"] is None:
        return _page(request, plan, form)
    try:
        asked = seats.ask(
            plan,
            seats=form.cleaned_data["seats"],
            public_id=form.cleaned_data["key"],
            by=request.user,
            now=clock.now(),
        )
    except (seats.SeatsRefused, AccountFrozen) as refused:
        messages.error(request, str(refused))
    else:
        queueing.on_commit(seat_tasks.advance_seat_move, asked.pk)
        messages.success(request, "Asked for. It counts when Stripe has confirmed it; until then nothing changes.")
    return redirect("seats", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def cancel(request: OrganizationRequest, move: uuid.UUID) -> HttpResponse:
    """Take back a change that was not sent to Stripe yet."""
    found = SeatMove.objects.filter(organization=request.organization, public_id=move).first()
    if found is None:
        raise Http404("No such change.")
    try:
        seats.cancel(found, now=clock.now())
    except seats.TooLate as late:
        messages.error(request, str(late))
    else:
        messages.success(request, "Canceled. Seats and outcomes stay as they are.")
    return redirect("seats", request.organization.public_id)


def _page(request: OrganizationRequest, plan: SeatPlan | None, form: SeatsForm | None) -> HttpResponse:
    now, organization = clock.now(), request.organization
    context: dict[str, Any] = {"plan": plan, "form": form}
    if plan is not None and form is not None:
        month = periods.month_of(now, organization.zone)
        moves = list(SeatMove.objects.filter(organization=organization).select_related("asked_by")[:10])
        context |= {
            "now": seats.Side(plan.seats, plan.seat_micros, plan.units, plan.unit_micros),
            "open": next((each for each in moves if each.is_open), None),
            "moves": [each for each in moves if not each.is_open],
            "month": month,
            "this_month": SeatMonth.objects.filter(organization=organization, month=month)
            .select_related("bucket")
            .first(),
            "key": uuid.uuid4(),
        }
        if form.is_bound and form.is_valid():
            try:
                context["preview"] = seats.preview(plan, seats=form.cleaned_data["seats"], now=now)
            except seats.SeatsRefused as refused:
                form.add_error("seats", str(refused))
    return render(request, "portal/seats.html", context)


def _plan(organization: Organization) -> SeatPlan | None:
    """Return the organization's seats; detached ones while a month of them is still paid for."""
    plan = SeatPlan.objects.select_related("organization").filter(organization=organization).first()
    if plan is None or plan.detached_at is None:
        return plan
    month = periods.month_of(clock.now(), organization.zone)
    return plan if SeatMonth.objects.filter(organization=organization, month=month).exists() else None
