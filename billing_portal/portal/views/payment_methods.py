"""Cards: save one with Stripe's Payment Element, choose the default, remove one.

Card data never reaches the portal: the form is Stripe's frame, and nothing is believed from the address it returns to.
"""

from uuid import UUID

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import card_limits, cards, customers, gateway
from billing_portal.billing.models import CardSetup, Customer, Invoice, PaymentMethod
from billing_portal.portal import address_first

_STRIPE_AWAY = "Stripe does not answer at the moment. Nothing was changed; please try again in a minute."


@require_GET
@organization_view(Permission.VIEW_BILLING)
def payment_methods(request: OrganizationRequest) -> HttpResponse:
    """List the saved cards, the default first."""
    saved = PaymentMethod.objects.filter(organization=request.organization, removed_at=None)
    return render(request, "portal/payment_methods.html", {"payment_methods": list(saved)})


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def add(request: OrganizationRequest) -> HttpResponse:
    """Show the card form with the mandate; its script does the rest with Stripe."""
    if asked := address_first.ask(request):
        return asked
    try:
        started = cards.start(
            request.organization, request.user, now=clock.now(), address=get_adapter().get_client_ip(request)
        )
    except card_limits.TooManySetups as error:
        messages.error(request, str(error))
        return redirect("payment_methods", request.organization.public_id)
    except gateway.Failed:
        messages.error(request, _STRIPE_AWAY)
        return redirect("payment_methods", request.organization.public_id)
    back = _unpaid_invoice(request)
    return_path = reverse("payment_method_added", args=[request.organization.public_id])
    return_path += f"?invoice={back.public_id}" if back else ""
    context = {
        "setup": started.setup,
        "back": back,
        "stripe_js_url": settings.STRIPE_JS_URL,
        "element": {
            "publishableKey": settings.STRIPE_PUBLISHABLE_KEY,
            "clientSecret": started.client_secret,
            "customerSessionClientSecret": started.customer_session_client_secret,
            "setupIntent": started.setup.stripe_setup_intent_id,
            "mandateUrl": reverse("payment_method_mandate", args=[request.organization.public_id]),
            "returnUrl": request.build_absolute_uri(return_path),
        },
    }
    return render(request, "portal/payment_method_add.html", context)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def accept_mandate(request: OrganizationRequest) -> HttpResponse:
    """Keep that the person accepted the mandate shown, before Stripe is asked to save the card."""
    cards.accept_mandate(_setup(request, request.POST.get("setup_intent", "")), request.user, now=clock.now())
    return JsonResponse({"accepted": True})


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def added(request: OrganizationRequest) -> HttpResponse:
    """Ask Stripe what became of the card, and say so."""
    setup = _setup(request, request.GET.get("setup_intent", ""))
    try:
        method = cards.finish(setup.stripe_setup_intent_id, now=clock.now())
    except (cards.CardRefused, cards.SetupDeclined, cards.MandateMissing) as refused:
        messages.error(request, str(refused))
    except cards.SetupPending as pending:
        messages.warning(request, str(pending))
    except gateway.Unavailable:
        messages.warning(request, "Stripe is still confirming the card. It appears here as soon as it is saved.")
    else:
        messages.success(request, f"{method} is saved. Usage beyond your credit is charged to the default card.")
    back = _unpaid_invoice(request)
    if back is not None:
        return redirect("invoice_payment", request.organization.public_id, back.public_id)
    return redirect("payment_methods", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def make_default(request: OrganizationRequest, method: int) -> HttpResponse:
    """Charge this card from now on."""
    chosen = _method(request, method)
    try:
        cards.make_default(chosen, now=clock.now())
    except gateway.Unavailable:
        messages.error(request, _STRIPE_AWAY)
    else:
        messages.success(request, f"{chosen} is now the default.")
    return redirect("payment_methods", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def remove(request: OrganizationRequest, method: int) -> HttpResponse:
    """Forget a card, here and at Stripe."""
    unwanted = _method(request, method)
    try:
        cards.remove(unwanted, now=clock.now())
    except cards.CardNeeded as needed:
        messages.error(request, str(needed))
    except gateway.Unavailable:
        messages.error(request, _STRIPE_AWAY)
    else:
        messages.success(request, f"{unwanted} was removed.")
    return redirect("payment_methods", request.organization.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def stripe_portal(request: OrganizationRequest) -> HttpResponse:
    """Go to the customer portal that Stripe hosts."""
    back = request.build_absolute_uri(reverse("payment_methods", args=[request.organization.public_id]))
    try:
        return redirect(customers.billing_portal_session_url(request.organization, back))
    except Customer.DoesNotExist:
        messages.info(request, "Your account is being set up at Stripe. Please try again in a minute.")
        return redirect("payment_methods", request.organization.public_id)
    except gateway.Failed:
        messages.error(request, _STRIPE_AWAY)
        return redirect("payment_methods", request.organization.public_id)


def _setup(request: OrganizationRequest, setup_intent_id: str) -> CardSetup:
    return get_object_or_404(CardSetup, organization=request.organization, stripe_setup_intent_id=setup_intent_id)


def _unpaid_invoice(request: OrganizationRequest) -> Invoice | None:
    """Return the invoice that somebody wants to pay with the card, and comes back to."""
    try:
        named = UUID(request.GET.get("invoice", ""))
    except ValueError:
        return None
    return Invoice.objects.filter(organization=request.organization, public_id=named).first()


def _method(request: OrganizationRequest, method: int) -> PaymentMethod:
    return get_object_or_404(PaymentMethod, pk=method, organization=request.organization, removed_at=None)
