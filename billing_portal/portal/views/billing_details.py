"""Whom invoices are made out to: name, address, tax IDs, purchase order, and who reads about money."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, organizations
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import customers, gateway, intents
from billing_portal.billing.models import BillingDetails, TaxId
from billing_portal.billing.tax import automatic, details, id_formats, tax_ids
from billing_portal.portal import address_first
from billing_portal.portal.details_forms import DetailsForm, RecipientsForm, TaxIdForm

_PAGE = "portal/billing_details.html"
_FIRST = "portal/billing_details_first.html"
_HISTORY = 20


@require_GET
@organization_view(Permission.VIEW_BILLING)
def billing_details(request: OrganizationRequest) -> HttpResponse:
    """Show what the next invoice says; htmx gets the fields of another country, or of another country's tax IDs."""
    if request.htmx and "tax_country" in request.GET:
        return render(request, f"{_PAGE}#tax_id_fields", {"tax_id_form": _tax_id_form(request)})
    if request.htmx and "country" in request.GET:
        return render(request, "portal/_address_fields.html", {"form": _form(request)})
    return _page(request)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def first(request: OrganizationRequest) -> HttpResponse:
    """Ask for the address on the way to the first charge, and nothing else."""
    context = {"form": _form(request), "next": address_first.going_on(request, request.GET.get("next", ""))}
    return render(request, _FIRST, context)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def change(request: OrganizationRequest) -> HttpResponse:
    """Keep a further version, bring it to Stripe, and go on to where somebody was going."""
    newest, now = details.current(request.organization), clock.now()
    form = DetailsForm(request.POST, organization=request.organization, newest=newest)
    on_the_way = "next" in request.POST
    going_on = address_first.going_on(request, request.POST.get("next", ""))
    if not form.is_valid():
        if on_the_way:
            return render(request, _FIRST, {"form": form, "next": going_on})
        return _page(request, form=form)
    made = details.change(request.organization, user=request.user, now=now, **form.said())
    automatic.apply(request.organization, now=now)
    _say(request, made)
    return redirect(going_on)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def recipients(request: OrganizationRequest) -> HttpResponse:
    """Keep who reads about money, from now on."""
    form = RecipientsForm(request.POST, organization=request.organization)
    if not form.is_valid():
        return _page(request, recipients_form=form)
    organizations.change_recipients(request.organization, emails=form.cleaned_data["recipients"])
    automatic.apply(request.organization, now=clock.now())
    messages.success(request, "Saved. What is written about money goes there from now on.")
    return redirect("billing_details", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def tax_id_add(request: OrganizationRequest) -> HttpResponse:
    """Check a tax ID here, then have Stripe take it and look it up."""
    form = TaxIdForm(request.POST, country=_country(request))
    if not form.is_valid():
        return _page(request, tax_id_form=form)
    given, now = form.cleaned_data, clock.now()
    try:
        tax_id = tax_ids.add(
            request.organization,
            user=request.user,
            country=given["tax_country"],
            type_=given["type"],
            value=given["value"],
            now=now,
        )
        tax_ids.send(tax_id, now=now)
    except id_formats.TaxIdRefused as refused:
        form.add_error("value", str(refused))
        return _page(request, tax_id_form=form)
    except tax_ids.TooMany:
        form.add_error(None, f"Stripe takes {tax_ids.MOST} tax IDs. Remove one first.")
        return _page(request, tax_id_form=form)
    except (gateway.Failed, intents.OutcomeUnknown, customers.CustomerDeleted):
        messages.info(request, "The tax ID is saved. It goes to Stripe as soon as that answers.")
    else:
        messages.success(request, f"{tax_id.value} stands on your next invoice.")
    return redirect("billing_details", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def tax_id_remove(request: OrganizationRequest, tax_id: UUID) -> HttpResponse:
    """Take a tax ID off the invoices to come."""
    found = get_object_or_404(TaxId, organization=request.organization, public_id=tax_id)
    tax_ids.remove(found, user=request.user, now=clock.now())
    try:
        tax_ids.send(found, now=clock.now())
    except (gateway.Failed, intents.OutcomeUnknown):
        messages.info(request, "The tax ID is removed. Stripe is told as soon as it answers.")
    else:
        messages.success(request, f"{found.value} is removed. Final invoices keep it.")
    return redirect("billing_details", request.organization.public_id)


def _say(request: OrganizationRequest, made: BillingDetails) -> None:
    known = details.at_stripe(request.organization)
    if known is not None and known.refused_id == made.pk:
        messages.warning(request, "Saved, but Stripe does not find this place. Look at the address again.")
    elif known is None or known.details_id != made.pk:
        messages.info(request, "Saved. It goes to Stripe as soon as that answers.")
    else:
        messages.success(request, "Saved. It counts from your next invoice on.")


def _page(
    request: OrganizationRequest,
    *,
    form: DetailsForm | None = None,
    recipients_form: RecipientsForm | None = None,
    tax_id_form: TaxIdForm | None = None,
) -> HttpResponse:
    organization = request.organization
    newest = details.current(organization)
    held = list(tax_ids.of(organization))
    versions = BillingDetails.objects.filter(organization=organization).select_related("made_by").order_by("-version")
    context = {
        "form": form or _form(request),
        "recipients_form": recipients_form or RecipientsForm(organization=organization),
        "tax_id_form": tax_id_form or _tax_id_form(request),
        "newest": newest,
        "newest_lines": details.lines(newest) if newest else [],
        "known": details.at_stripe(organization),
        "tax_ids": [{"row": each, "label": id_formats.label(each.type, each.country)} for each in held],
        "may_add_tax_id": len(held) < tax_ids.MOST,
        "versions": [{"row": each, "lines": details.lines(each)} for each in versions[:_HISTORY]],
    }
    return render(request, _PAGE, context)


def _form(request: OrganizationRequest) -> DetailsForm:
    """Return the form as it begins, or with what was typed before another country was chosen."""
    typed: Any = request.GET.dict() if "country" in request.GET else None
    organization = request.organization
    return DetailsForm(organization=organization, newest=details.current(organization), typed=typed)


def _tax_id_form(request: OrganizationRequest) -> TaxIdForm:
    return TaxIdForm(country=request.GET.get("tax_country") or _country(request))


def _country(request: OrganizationRequest) -> str:
    newest = details.current(request.organization)
    return newest.country if newest else ""
