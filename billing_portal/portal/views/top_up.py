"""Automatic top-up: what is set, what it comes to in words, switching it on and off."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import purchase_tasks, purchases, top_up_orders, top_ups
from billing_portal.billing.models import PaymentMethod
from billing_portal.billing.tax import previews
from billing_portal.ledger import accounts
from billing_portal.portal import address_first, credit_sales
from billing_portal.portal.credit_forms import TopUpForm, typed


@require_GET
@organization_view(Permission.VIEW_BILLING)
def top_up(request: OrganizationRequest) -> HttpResponse:
    """Show what is set, and what the form's terms would mean in words; htmx gets that preview alone."""
    form = _form(request, request.GET if "amount" in request.GET else None)
    template = "portal/top_up.html"
    return render(request, f"{template}#preview" if request.htmx else template, _context(request, form))


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def switch_on(request: OrganizationRequest) -> HttpResponse:
    """Put the terms that were shown and accepted in force."""
    form = _form(request, request.POST)
    if not form.is_valid():
        return render(request, "portal/top_up.html", _context(request, form))
    here = reverse("top_up", args=[request.organization.public_id])
    terms = {name: typed(micros, form.terms.currency) for name, micros in _by_field(form).items()}
    if asked := address_first.ask(request, back=f"{here}?{urlencode(terms)}"):
        return asked
    try:
        top_ups.switch_on(organization=request.organization, user=request.user, now=clock.now(), **form.micros())
    except purchases.CardNeeded:
        form.add_error(None, "There is no card to charge. Add one first.")
        return render(request, "portal/top_up.html", _context(request, form))
    except accounts.AccountFrozen:
        form.add_error(None, "Your account is being looked at by us, so nothing can be changed now.")
        return render(request, "portal/top_up.html", _context(request, form))
    purchase_tasks.ask_to_check(request.organization.pk)
    messages.success(request, "Automatic top-up is on.")
    return redirect("top_up", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def switch_off(request: OrganizationRequest) -> HttpResponse:
    """Buy nothing automatically any more."""
    under_way = top_ups.switch_off(organization=request.organization, user=request.user, now=clock.now())
    if under_way is not None:
        purchase_tasks.ask_to_advance(under_way, at_once=True)
    messages.success(request, "Automatic top-up is off.")
    return redirect("top_up", request.organization.public_id)


def _by_field(form: TopUpForm) -> dict[str, int]:
    return {name.removesuffix("_micros"): micros for name, micros in form.micros().items()}


def _form(request: OrganizationRequest, data: Any) -> TopUpForm:
    try:
        terms = purchases.terms(request.organization.currency)
    except purchases.CurrencyNotSold as error:
        raise Http404("No credit is sold in this currency.") from error
    return TopUpForm(data, terms=terms, order=top_up_orders.latest(request.organization))


def _context(request: OrganizationRequest, form: TopUpForm) -> dict[str, Any]:
    organization, now = request.organization, clock.now()
    card = PaymentMethod.objects.filter(organization=organization, removed_at=None, is_default=True).first()
    wanted = form.micros() if form.is_bound and form.is_valid() else {}
    currency = organization.currency
    return {
        "form": form,
        "card": card,
        "currency": currency,
        "wanted": wanted,
        "typed": {name: typed(micros, currency) for name, micros in (_by_field(form) if wanted else {}).items()},
        "tax": previews.of(organization, wanted["amount_micros"], now=now) if wanted else None,
        "times": wanted["ceiling_micros"] // wanted["amount_micros"] if wanted else 0,
        "expected_micros": top_ups.expected_micros(organization.pk, now=now),
        "mandate": top_up_orders.mandate_for(organization.name),
        **credit_sales.summary(organization, now=now),
    }
