"""Buckets: what is left of each, what is on offer, and buying one with a preview of what it means."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import (
    bucket_renewal_orders,
    bucket_renewals,
    bucket_sales,
    local_prices,
    purchase_tasks,
    purchases,
)
from billing_portal.billing.models import BucketOffer, Purchase
from billing_portal.billing.tax import previews
from billing_portal.ledger import accounts, bucket_claims
from billing_portal.ledger.models import Bucket
from billing_portal.portal import address_first, bucket_figures, bucket_plan
from billing_portal.portal.bucket_forms import BucketForm
from billing_portal.portal.views.purchases import FROZEN, on_the_way, saved_cards
from usage import periods

_PAGE_SIZE = 20


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def buckets_page(request: OrganizationRequest) -> HttpResponse:
    """Show the buckets in the order they are used, and those that are over or used up."""
    now, organization = clock.now(), request.organization
    held = bucket_figures.held(organization, now=now)
    context = {
        "open": [each for each in held if each.is_open],
        "ended": sorted((each for each in held if not each.is_open), key=lambda each: each.bucket.pk, reverse=True),
        "tiers": bucket_figures.tiers(organization, now=now),
    }
    return render(request, "portal/buckets.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def bucket(request: OrganizationRequest, bucket: UUID) -> HttpResponse:
    """Show one bucket: what is left of it, until when, and every movement."""
    now = clock.now()
    found = _bucket(request, bucket)
    held = bucket_figures.with_movements([found], now=now)[0]
    page = Paginator(found.entries.order_by("-id"), _PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "held": held,
        "course": bucket_figures.course(held, request.organization, now=now),
        "page": page,
        "previous_url": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next_url": f"?page={page.next_page_number()}" if page.has_next() else "",
        "claim": bucket_claims.of(found),
        "replaced_by": found.replaced_by.order_by("-id").first(),
        "upgrades": bucket_sales.upgrades_of(found, now=now),
        **_renewal(found, now=now),
        "purchase": Purchase.objects.filter(bucket=found).select_related("invoice", "offer").first(),
    }
    return render(request, "portal/bucket.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def offers(request: OrganizationRequest) -> HttpResponse:
    """Show what is on sale, the smallest first, beside the list price."""
    tiers = bucket_figures.tiers(request.organization, now=clock.now())
    local = local_prices.rate_for(request.organization, now=clock.now())
    return render(request, "portal/bucket_offers.html", {"tiers": tiers, "local": local})


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def planner(request: OrganizationRequest) -> HttpResponse:
    """Say which bucket would have been the cheapest for the last twelve months."""
    context = bucket_plan.of(request.organization, now=clock.now())
    return render(request, "portal/bucket_planner.html", context)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def offer(request: OrganizationRequest, offer: UUID) -> HttpResponse:
    """Show what a bucket costs, pays for and how long, before anything is bought."""
    if asked := address_first.ask(request):
        return asked
    form = BucketForm(cards=saved_cards(request))
    return _preview(request, _offer(request, offer), form, upgrade=request.GET.get("upgrade", ""))


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def buy(request: OrganizationRequest, offer: UUID) -> HttpResponse:
    """Buy what was shown, once per form: with the saved card, or in Stripe Checkout."""
    wanted = _offer(request, offer)
    here = reverse("bucket_offer", args=[request.organization.public_id, wanted.public_id])
    if asked := address_first.ask(request, back=here):
        return asked
    form = BucketForm(request.POST, cards=saved_cards(request))
    upgrade = request.POST.get("upgrade", "")
    if not form.is_valid():
        return _preview(request, wanted, form, upgrade=upgrade)
    try:
        purchase = _ask(request, wanted, form.cleaned_data)
    except (purchases.KeyReused, purchases.PurchaseOpen) as error:
        messages.warning(request, f"{error} Nothing more was charged.")
        return redirect("purchase", request.organization.public_id, error.purchase.public_id)
    except (bucket_sales.OfferNotOnSale, bucket_sales.UpgradeRefused):
        messages.warning(request, "This bucket is no more on sale as it was shown. Nothing was charged.")
        return redirect("bucket_offers", request.organization.public_id)
    except purchases.FormOutdated:
        form.add_error(None, "This form was out of date. Look at it as it is now, then confirm again.")
    except purchases.CardNeeded:
        form.add_error(None, "Your default card has changed meanwhile. Look at the one shown now, then confirm again.")
    except accounts.AccountFrozen:
        form.add_error(None, FROZEN)
    else:
        return on_the_way(request, purchase)
    return _preview(request, wanted, form, upgrade=upgrade)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def renewal_on(request: OrganizationRequest, bucket: UUID) -> HttpResponse:
    """Have a bucket bought again when its term ends."""
    found = _bucket(request, bucket)
    here = reverse("bucket", args=[request.organization.public_id, found.public_id])
    if asked := address_first.ask(request, back=here):
        return asked
    try:
        bucket_renewals.switch_on(found, user=request.user, now=clock.now())
    except bucket_renewals.RenewalRefused:
        messages.warning(request, "This bucket cannot be renewed: it is over, or no more on sale.")
    except purchases.CardNeeded:
        messages.warning(request, "Save a card first: there is none that could be charged.")
    except accounts.AccountFrozen:
        messages.warning(request, FROZEN)
    else:
        messages.success(request, "The bucket will be renewed. You are told the price 30 and 7 days before.")
    return redirect("bucket", request.organization.public_id, found.public_id)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def renewal_off(request: OrganizationRequest, bucket: UUID) -> HttpResponse:
    """End a renewal; one that is being charged is given up, unless its payment comes in first."""
    found = _bucket(request, bucket)
    under_way = bucket_renewals.switch_off(found, user=request.user, now=clock.now())
    if under_way is not None:
        purchase_tasks.ask_to_advance(under_way, at_once=True)
    messages.success(request, "The bucket will not be renewed.")
    return redirect("bucket", request.organization.public_id, found.public_id)


def _bucket(request: OrganizationRequest, public_id: UUID) -> Bucket:
    rows = Bucket.objects.select_related("organization")
    return get_object_or_404(rows, organization=request.organization, public_id=public_id)


def _to_upgrade(request: OrganizationRequest, public_id: str | UUID | None) -> Bucket | None:
    """Return the bucket that is to be upgraded, or None; one that nobody here has is missing."""
    if not public_id:
        return None
    try:
        return _bucket(request, UUID(str(public_id)))
    except ValueError as error:
        raise Http404("No such bucket.") from error


def _renewal(found: Bucket, *, now: datetime) -> dict[str, Any]:
    """Return what the page says of a renewal: the order in force, what it would buy, and when."""
    order = bucket_renewal_orders.in_force(found)
    offer = order.offer if order and order.told_at else bucket_renewals.offer_for(found, now=now)
    may_renew = offer is not None and bucket_renewals.is_renewable(found, now=now)
    return {
        "order": order,
        "renewal_offer": offer,
        "may_renew": may_renew,
        "charged_at": found.expires_at - bucket_renewals.CHARGED_BEFORE,
        "mandate": bucket_renewal_orders.mandate_for(found.organization.name),
    }


def _offer(request: OrganizationRequest, public_id: UUID) -> BucketOffer:
    """Return an offer in the organization's currency, also one whose sale has ended: a form may have bought it."""
    found = BucketOffer.objects.filter(public_id=public_id, currency=request.organization.currency).first()
    if found is None:
        raise Http404("No such offer.")
    return found


def _preview(
    request: OrganizationRequest, wanted: BucketOffer, form: BucketForm, *, upgrade: str | UUID | None
) -> HttpResponse:
    now, organization = clock.now(), request.organization
    replaced = _to_upgrade(request, upgrade)
    larger = next((each for each in _upgrades(replaced) if each.offer == wanted), None)
    if replaced is not None and larger is None:
        messages.warning(request, "The bucket cannot be upgraded to this one.")
        return redirect("bucket", organization.public_id, replaced.public_id)
    tier = next((each for each in bucket_figures.tiers(organization, now=now) if each.offer == wanted), None)
    if tier is None:
        messages.warning(request, "This bucket is no more on sale. These are.")
        return redirect("bucket_offers", organization.public_id)
    pays_micros = larger.price_micros if larger else wanted.price_micros
    form.initial["renews"] = replaced is not None and bucket_renewal_orders.in_force(replaced) is not None
    form.fields["renews"].help_text = bucket_renewal_orders.mandate_for(organization.name)
    context = {
        "form": form,
        "tier": tier,
        "offer": wanted,
        "expires_at": replaced.expires_at
        if replaced
        else periods.months_after(now, wanted.term_months, organization.zone),
        "larger": larger,
        "larger_left": larger.units + larger.bucket.remaining_units if larger else None,
        "local": local_prices.rate_for(organization, now=now),
        "pays_micros": pays_micros,
        "tax": previews.of(organization, pays_micros, now=now),
        "card": saved_cards(request).filter(is_default=True).first(),
        "key": purchases.next_key(organization),
        "under_way": purchases.open_purchase(organization, Purchase.Origin.PERSON),
    }
    return render(request, "portal/bucket_offer.html", context)


def _upgrades(replaced: Bucket | None) -> list[bucket_sales.Upgrade]:
    return bucket_sales.upgrades_of(replaced, now=clock.now()) if replaced else []


def _ask(request: OrganizationRequest, wanted: BucketOffer, cleaned: dict[str, Any]) -> Purchase:
    organization, key = request.organization, cleaned["key"]
    back = reverse("purchase", args=[organization.public_id, key])
    return bucket_sales.ask(
        organization=organization,
        user=request.user,
        offer=wanted,
        upgrades=_to_upgrade(request, cleaned["upgrade"]),
        renews=cleaned["renews"],
        way=Purchase.Way(cleaned["way"]),
        key=key,
        now=clock.now(),
        payment_method=cleaned["card"],
        return_url=request.build_absolute_uri(back),
    )
