"""Buying credit: choose an amount, see what it means, pay, and watch what becomes of it, as of any purchase.

Nothing is believed from a browser that comes back: a purchase is paid when Stripe says so.
"""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import local_prices, purchase_payment, purchase_tasks, purchases
from billing_portal.billing.models import PaymentMethod, Purchase
from billing_portal.billing.tax import previews
from billing_portal.ledger import accounts, balances
from billing_portal.ledger.models import Account
from billing_portal.portal import address_first, formats
from billing_portal.portal.credit_forms import AmountForm, PayForm, typed
from usage.money import MICROS_PER_UNIT

FROZEN = "Your account is being looked at by us, so nothing can be bought now. Nothing was charged."


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def buy(request: OrganizationRequest) -> HttpResponse:
    """Ask how much, and show what that means; htmx gets the preview alone."""
    terms = _terms(request)
    if (asked := address_first.ask(request)) and not request.htmx:
        return asked
    form = AmountForm(request.GET if "amount" in request.GET else _proposed(terms), terms=terms)
    context = _preview(request, form)
    return render(request, "portal/buy.html#preview" if request.htmx else "portal/buy.html", context)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def pay(request: OrganizationRequest) -> HttpResponse:
    """Buy what was shown, once per form: with the saved card, or in Stripe Checkout."""
    terms = _terms(request)
    form = PayForm(request.POST, terms=terms, cards=saved_cards(request))
    if not form.is_valid():
        return _again(request, form)
    amount = typed(form.cleaned_data["amount"], terms.currency)
    here = reverse("buy_credit", args=[request.organization.public_id])
    if asked := address_first.ask(request, back=f"{here}?amount={amount}"):
        return asked
    try:
        purchase = _ask(request, form.cleaned_data)
    except (purchases.KeyReused, purchases.PurchaseOpen) as error:
        messages.warning(request, f"{error} Nothing more was charged.")
        return redirect("purchase", request.organization.public_id, error.purchase.public_id)
    except purchases.FormOutdated:
        form.add_error(None, "This form was out of date. Look at it as it is now, then confirm again.")
        return _again(request, form)
    except purchases.CurrencyMismatch:
        form.add_error(None, f"Credit of this organization is bought in {terms.currency}.")
        return _again(request, form)
    except purchases.CardNeeded:
        form.add_error(None, "Your default card has changed meanwhile. Look at the one shown now, then confirm again.")
        return _again(request, form)
    except accounts.AccountFrozen:
        form.add_error(None, FROZEN)
        return _again(request, form)
    return on_the_way(request, purchase)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def purchase(request: OrganizationRequest, purchase: UUID) -> HttpResponse:
    """Show one purchase; while it is under way the page asks again by itself, and has Stripe asked."""
    found = _purchase(request, purchase)
    if found.due_at is not None:
        purchase_tasks.ask_to_advance(found)
    if found.offer is not None:
        request.section = "buckets"
    context = {
        "purchase": found,
        "steps": list(found.steps.all()),
        "is_waiting": found.is_open or found.state == Purchase.State.PAID,
        "retry_at": found.due_at if found.declines and found.is_open and not found.is_given_up else None,
        "again_url": _again_url(found),
    }
    return render(request, "portal/purchase.html#state" if request.htmx else "portal/purchase.html", context)


def _again_url(found: Purchase) -> str:
    """Return where the same is bought anew."""
    if found.offer is not None:
        return reverse("bucket_offer", args=[found.organization.public_id, found.offer.public_id])
    here = reverse("buy_credit", args=[found.organization.public_id])
    return f"{here}?amount={typed(found.amount_micros, found.currency)}"


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def cancel(request: OrganizationRequest, purchase: UUID) -> HttpResponse:
    """Stop a purchase, unless its payment comes in first."""
    found = _purchase(request, purchase)
    if found.is_open:
        purchases.give_up(found, now=clock.now())
        purchase_tasks.ask_to_advance(found, at_once=True)
    return redirect("purchase", request.organization.public_id, found.public_id)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def purchase_list(request: OrganizationRequest) -> HttpResponse:
    """List what was bought, by people and automatically, the newest first."""
    rows = Purchase.objects.filter(organization=request.organization).select_related("asked_by", "invoice", "offer")
    return render(request, "portal/purchases.html", {"purchases": list(rows.order_by("-id")[:200])})


def _terms(request: OrganizationRequest) -> purchases.Terms:
    try:
        return purchases.terms(request.organization.currency)
    except purchases.CurrencyNotSold as error:
        raise Http404("No credit is sold in this currency.") from error


def _proposed(terms: purchases.Terms) -> dict[str, str]:
    micros = (*terms.presets_micros, terms.minimum_micros)[:2][-1]
    return {"amount": typed(micros, terms.currency)}


def saved_cards(request: OrganizationRequest) -> QuerySet[PaymentMethod]:
    """Return the cards that could be charged."""
    return PaymentMethod.objects.filter(organization=request.organization, removed_at=None)


def _purchase(request: OrganizationRequest, public_id: UUID) -> Purchase:
    rows = Purchase.objects.select_related(
        "organization", "invoice", "payment_method", "asked_by", "grant", "offer", "bucket"
    )
    return get_object_or_404(rows, organization=request.organization, public_id=public_id)


def _preview(request: OrganizationRequest, form: AmountForm) -> dict[str, Any]:
    """Return the page's context: the amounts on offer, and what the chosen one costs and gives."""
    organization = request.organization
    account = get_object_or_404(Account, organization=organization)
    micros = form.cleaned_data.get("amount") if form.is_valid() or form.is_bound else None
    credit = balances.balance(account, now=clock.now()).credit_micros
    here = reverse("buy_credit", args=[organization.public_id])
    return {
        "form": form,
        "presets": [
            {
                "label": formats.money_axis(each, account.currency, step_micros=MICROS_PER_UNIT),
                "url": f"{here}?amount={typed(each, account.currency)}",
                "current": each == micros,
            }
            for each in form.terms.presets_micros
        ],
        "micros": micros,
        "tax": previews.of(organization, micros, now=clock.now()) if micros else None,
        "currency": account.currency,
        "typed": typed(micros, account.currency) if micros else "",
        "credit_micros": credit,
        "credit_after_micros": credit + (micros or 0),
        "local": local_prices.rate_for(organization, now=clock.now()),
        "card": saved_cards(request).filter(is_default=True).first(),
        "expires": settings.PREPAID_CREDIT_EXPIRES_AFTER is not None,
        "key": purchases.next_key(organization),
        "under_way": purchases.open_purchase(organization, Purchase.Origin.PERSON),
    }


def _again(request: OrganizationRequest, form: PayForm) -> HttpResponse:
    """Show the form with what is wrong; nothing was changed."""
    return render(request, "portal/buy.html", _preview(request, form))


def _ask(request: OrganizationRequest, wanted: dict[str, Any]) -> Purchase:
    organization = request.organization
    key: UUID = wanted["key"]
    back = reverse("purchase", args=[organization.public_id, key])
    return purchases.ask(
        organization=organization,
        user=request.user,
        micros=wanted["amount"],
        currency=wanted["currency"],
        way=Purchase.Way(wanted["way"]),
        key=key,
        now=clock.now(),
        payment_method=wanted["card"],
        return_url=request.build_absolute_uri(back),
    )


def on_the_way(request: OrganizationRequest, purchase: Purchase) -> HttpResponse:
    """Send a person to Checkout, or to the purchase's page while the card is charged."""
    if purchase.way == Purchase.Way.CHECKOUT and purchase.is_open:
        purchase_payment.advance(purchase, now=clock.now())
        if purchase.checkout_url and purchase.is_open:
            return redirect(purchase.checkout_url)
    else:
        purchase_tasks.ask_to_advance(purchase)
    return redirect("purchase", request.organization.public_id, purchase.public_id)
