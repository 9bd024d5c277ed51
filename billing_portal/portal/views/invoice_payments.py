"""The payment of one invoice: how far it is, and every way to pay."""

import uuid
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import cards, charging, gateway, overdue_walk
from billing_portal.billing.models import Invoice, PaymentMethod
from billing_portal.portal import payment_trouble

_UNKNOWN = (
    "Stripe does not answer at the moment. If the card was charged, you see it here in a minute; trying again is safe."
)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def payment(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show how far an invoice's payment is: why it failed, what stops when, and every way to pay."""
    found = payment_trouble.of(_invoice(request, invoice), now=clock.now())
    return render(request, "portal/invoice_payment.html", {"payment": found, "invoice": found.invoice})


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def pay(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Charge an unpaid invoice to the chosen card, or to the default one, once for each form."""
    found, now = _invoice(request, invoice), clock.now()
    method = _chosen_card(request)
    page = "invoice_payment"
    try:
        paid = charging.pay_now(found, key=str(_key(request)), method=method, now=now)
    except charging.NotPayable as error:
        messages.info(request, str(error))
    except charging.PaymentRefused:
        messages.error(request, "The card was not charged. What the bank said stands below.")
        _read_attempts(found)
    except gateway.Failed:
        messages.warning(request, _UNKNOWN)
    else:
        page = "invoice"
        messages.success(request, f"Invoice {paid.number} is paid.{_charge_from_now_on(request, method)}")
    return redirect(page, request.organization.public_id, found.public_id)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def pay_by_form(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show Stripe's form, which charges an unpaid invoice to a card that is entered there, or by Link."""
    found = _invoice(request, invoice)
    here = [request.organization.public_id, found.public_id]
    try:
        secret = charging.form_secret(found)
    except charging.NotPayable as error:
        messages.info(request, str(error))
        return redirect("invoice_payment", *here)
    except gateway.Failed:
        messages.error(request, "Stripe does not answer at the moment. Nothing was charged; try again in a minute.")
        return redirect("invoice_payment", *here)
    context = {
        "invoice": found,
        "stripe_js_url": settings.STRIPE_JS_URL,
        "element": {
            "publishableKey": settings.STRIPE_PUBLISHABLE_KEY,
            "clientSecret": secret,
            "returnUrl": request.build_absolute_uri(reverse("invoice_paid_by_form", args=here)),
        },
    }
    return render(request, "portal/invoice_pay_by_form.html", context)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def paid_by_form(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Ask Stripe what became of a payment by its form, and say so; nothing is believed from the address."""
    found = _invoice(request, invoice)
    page = "invoice_payment"
    try:
        found = charging.look(found, now=clock.now())
    except gateway.Failed:
        messages.warning(request, _UNKNOWN)
    else:
        if found.state == Invoice.State.PAID:
            page = "invoice"
            messages.success(request, f"Invoice {found.number} is paid.")
        else:
            messages.warning(request, "Stripe has no payment of this invoice yet. What the bank said stands below.")
            _read_attempts(found)
    return redirect(page, request.organization.public_id, found.public_id)


def _chosen_card(request: OrganizationRequest) -> PaymentMethod | None:
    """Return the card that the form names; None, which is the default card, where it names none."""
    chosen = request.POST.get("card", "")
    if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 19):
        return None
    return get_object_or_404(PaymentMethod, pk=chosen, organization=request.organization, removed_at=None)


def _charge_from_now_on(request: OrganizationRequest, method: PaymentMethod | None) -> str:
    """Make the card that has just paid the default one, if that was wished; return the words for it."""
    if method is None or method.is_default or not request.POST.get("from_now_on"):
        return ""
    try:
        cards.make_default(method, now=clock.now())
    except gateway.Failed:
        return f" {method} could not be made the default just now."
    return f" {method} is charged from now on."


def _read_attempts(invoice: Invoice) -> None:
    """Look up at once what the bank said; if Stripe does not answer, the sweep does it."""
    with suppress(gateway.Failed):
        overdue_walk.look_up(invoice)


def _key(request: OrganizationRequest) -> UUID:
    """Return the key that was minted with the form; a new one for a request without."""
    try:
        return UUID(request.POST.get("key", ""))
    except ValueError:
        return uuid.uuid4()


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    return get_object_or_404(Invoice, public_id=invoice, organization=request.organization)
