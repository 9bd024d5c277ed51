"""Backfills on the staff desk: asked for, counted, looked at, let go ahead by a second person, followed."""

import uuid
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, Q, Sum
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import clock, queueing
from accounts.models import Organization
from accounts.organization_view import PersonRequest
from billing_portal.support import backfill_bars
from usage import tasks
from usage.backfills import plans
from usage.backfills.plans import Wish
from usage.models import Backfill, PriceVersion

_MAY_SEE, _MAY_ASK = "usage.view_backfill", "usage.add_backfill"
_MAY_DECIDE = "support.decide_staffaction"
_SHOWN = 100

State = Backfill.State


class BackfillForm(forms.Form):
    """Which calls, by which prices, and why. The key makes a double submit one backfill."""

    version = forms.ModelChoiceField(
        label="Prices",
        queryset=PriceVersion.objects.select_related("book").order_by("book__reference", "-number"),
        help_text="A new price or rule is a new version of a price book: enter it first.",
    )
    starts_on = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}))
    ends_on = forms.DateField(
        label="Last day",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Whole days that are over, in each organization's time zone.",
    )
    organizations = forms.CharField(
        required=False,
        max_length=10_000,
        help_text="Their references, separated by commas or line breaks. Empty: all that the price book is for; who has"
        " prices of its own keeps them unless it is named.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    reason = forms.CharField(
        max_length=200,
        help_text="The customers read this in a mail, on their usage page and with each call.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial={"key": uuid.uuid4()})

    def clean_organizations(self) -> list[Organization] | None:
        named = {name.strip() for name in self.cleaned_data["organizations"].replace("\n", ",").split(",")} - {""}
        if not named:
            return None
        found = list(Organization.objects.filter(reference__in=named).order_by("id"))
        unknown = named - {each.reference for each in found}
        if unknown:
            raise forms.ValidationError(f"There is no organization {', '.join(sorted(unknown))}.")
        return found

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        starts_on, ends_on = cleaned.get("starts_on"), cleaned.get("ends_on")
        if starts_on and ends_on and not starts_on <= ends_on <= starts_on + plans.LONGEST:
            self.add_error("ends_on", f"Not before the first day, and at most {plans.LONGEST.days} days after it.")
        return cleaned

    def wish(self) -> Wish:
        """Return what is asked for."""
        return Wish(**{name: value for name, value in self.cleaned_data.items() if name != "key"})


@require_http_methods(["GET", "POST"])
def backfill_list(request: PersonRequest) -> HttpResponse:
    """List backfills, the newest first, and ask for one; what is asked for is only counted."""
    _assert_may(request, _MAY_SEE if request.method == "GET" else _MAY_ASK)
    form = BackfillForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            key = form.cleaned_data["key"]
            made = plans.ask(form.wish(), public_id=key, by=request.user, now=clock.now())
        except plans.CannotBe as error:
            form.add_error(None, str(error))
        else:
            queueing.send(tasks.continue_backfills)
            return redirect("staff_backfill", made.public_id)
    found = Backfill.objects.select_related("price_version__book", "asked_by").order_by("-id")
    context = {
        "title": "Price calls anew",
        "form": form,
        "backfills": found.annotate(calls=Sum("parts__calls"), revised=Sum("parts__revised"))[:50],
        "may_ask": request.user.has_perm(_MAY_ASK),
    }
    return _page(request, "staff/backfills.html", context)


@require_GET
def backfill(request: PersonRequest, backfill: UUID) -> HttpResponse:
    """Show what a backfill changes, organization by organization, and how far it is."""
    if not (request.user.has_perm(_MAY_SEE) or request.user.has_perm(_MAY_DECIDE)):
        raise PermissionDenied
    related = ("price_version__book", "asked_by", "started_by", "cancelled_by")
    found = get_object_or_404(Backfill.objects.select_related(*related), public_id=backfill)
    parts = found.parts.select_related("organization").annotate(moved=F("more_micros") + F("less_micros"))
    shown = list(parts.order_by("-moved", "id")[:_SHOWN])
    sums = plans.sums(found)
    counts = found.parts.aggregate(
        all=Count("id"),
        counted=Count("id", filter=Q(counted_at__isnull=False)),
        ended=Count("id", filter=Q(done_at__isnull=False)),
        failed=Count("id", filter=Q(attempts__gte=plans.MOST_ATTEMPTS)),
    )
    context = {
        "title": f"Price calls anew: {found.starts_on} to {found.ends_on}",
        "backfill": found,
        "currency": found.price_version.book.currency,
        "rows": list(zip(shown, backfill_bars.of(shown), strict=True)),
        "more_parts": counts["all"] - len(shown),
        "sums": sums,
        "net_micros": sums["more_micros"] - sums["less_micros"],
        "same": sums["calls"] - sums["dearer"] - sums["cheaper"] - sums["unpriced"],
        "counts": counts,
        "is_own": found.asked_by_id == request.user.pk,
        "may_decide": request.user.has_perm(_MAY_DECIDE),
        "may_cancel": _may_cancel(request),
        "is_at_work": found.state in Backfill.AT_WORK,
    }
    return _page(request, "staff/backfill.html", context)


@require_POST
def start(request: PersonRequest, backfill: UUID) -> HttpResponse:
    """Let a counted backfill go ahead, or try again what was set aside."""
    _assert_may(request, _MAY_DECIDE)
    found = get_object_or_404(Backfill, public_id=backfill)
    try:
        plans.start(found.pk, by=request.user, now=clock.now())
    except (plans.NotNow, plans.SamePerson, plans.PricesEdited) as refused:
        messages.error(request, str(refused))
    else:
        queueing.send(tasks.continue_backfills)
        messages.success(request, "It goes ahead. Each customer concerned gets a mail when its calls are done.")
    return redirect("staff_backfill", backfill)


@require_POST
def cancel(request: PersonRequest, backfill: UUID) -> HttpResponse:
    """Stop a backfill where it is."""
    if not _may_cancel(request):
        raise PermissionDenied
    found = get_object_or_404(Backfill, public_id=backfill)
    try:
        plans.cancel(found.pk, by=request.user, now=clock.now())
    except plans.NotNow as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "Cancelled. What was priced anew until now stays so, and its customers are told.")
    return redirect("staff_backfill", backfill)


def _may_cancel(request: PersonRequest) -> bool:
    return request.user.has_perm(_MAY_ASK) or request.user.has_perm(_MAY_DECIDE)


def _assert_may(request: PersonRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})
