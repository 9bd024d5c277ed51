"""Buckets: what is left of each, what is on offer, and buying one with a preview of what it means."""

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
from billing_portal.billing import bucket_sales, purchases
from billing_portal.billing.models import BucketOffer, Purchase
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Bucket
from billing_portal.portal import bucket_figures, bucket_plan
from billing_portal.portal.bucket_forms import BucketForm
from billing_portal.portal.views.purchases import FROZEN, on_the_way, saved_cards
from usage import periods

_PAGE_SIZE = 50


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
    found = get_object_or_404(Bucket, organization=request.organization, public_id=bucket)
    held = bucket_figures.with_movements([found], now=now)[0]
    page = Paginator(found.entries.order_by("-id"), _PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "held": held,
        "course": bucket_figures.course(held, request.organization, now=now),
        "page": page,
        "previous_url": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next_url": f"?page={page.next_page_number()}" if page.has_next() else "",
        "replaced_by": found.replaced_by.first(),
        "purchase": Purchase.objects.filter(bucket=found).select_related("invoice", "offer").first(),
    }
    return render(request, "portal/bucket.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def offers(request: OrganizationRequest) -> HttpResponse:
    """Show what is on sale, the smallest first, beside the list price."""
    tiers = bucket_figures.tiers(request.organization, now=clock.now())
    return render(request, "portal/bucket_offers.html", {"tiers": tiers})


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
    return _preview(request, _offer(request, offer), BucketForm(cards=saved_cards(request)))


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def buy(request: OrganizationRequest, offer: UUID) -> HttpResponse:
    """Buy what was shown, once per form: with the saved card, or in Stripe Checkout."""
    wanted = _offer(request, offer)
    form = BucketForm(request.POST, cards=saved_cards(request))
    if not form.is_valid():
        return _preview(request, wanted, form)
    try:
        purchase = _ask(request, wanted, form.cleaned_data)
    except (purchases.KeyReused, purchases.PurchaseOpen) as error:
        messages.warning(request, f"{error} Nothing more was charged.")
        return redirect("purchase", request.organization.public_id, error.purchase.public_id)
    except bucket_sales.OfferNotOnSale:
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
    return _preview(request, wanted, form)


def _offer(request: OrganizationRequest, public_id: UUID) -> BucketOffer:
    """Return an offer in the organization's currency, also one whose sale has ended: a form may have bought it."""
    found = BucketOffer.objects.filter(public_id=public_id, currency=request.organization.currency).first()
    if found is None:
        raise Http404("No such offer.")
    return found


def _preview(request: OrganizationRequest, wanted: BucketOffer, form: BucketForm) -> HttpResponse:
    now, organization = clock.now(), request.organization
    tier = next((each for each in bucket_figures.tiers(organization, now=now) if each.offer == wanted), None)
    if tier is None:
        messages.warning(request, "This bucket is no more on sale. These are.")
        return redirect("bucket_offers", organization.public_id)
    context = {
        "form": form,
        "tier": tier,
        "offer": wanted,
        "expires_at": periods.months_after(now, wanted.term_months, organization.zone),
        "card": saved_cards(request).filter(is_default=True).first(),
        "key": purchases.next_key(organization),
        "under_way": purchases.open_purchase(organization, Purchase.Origin.PERSON),
    }
    return render(request, "portal/bucket_offer.html", context)


def _ask(request: OrganizationRequest, wanted: BucketOffer, cleaned: dict[str, Any]) -> Purchase:
    organization, key = request.organization, cleaned["key"]
    back = reverse("purchase", args=[organization.public_id, key])
    return bucket_sales.ask(
        organization=organization,
        user=request.user,
        offer=wanted,
        way=Purchase.Way(cleaned["way"]),
        key=key,
        now=clock.now(),
        payment_method=cleaned["card"],
        return_url=request.build_absolute_uri(back),
    )
