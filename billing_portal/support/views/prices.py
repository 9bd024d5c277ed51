"""Prices of calls on the desk: the versions of every book, and a new one proposed."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.support import price_forms, price_pages
from billing_portal.support.price_forms import PricesForm
from billing_portal.support.views.proposal_pages import ProposalPages, assert_may, page
from usage import price_impacts, price_proposals, proposing, tasks
from usage.models import PriceBook, PriceProposal
from usage.price_documents import PriceDocumentInvalid

PAGES = ProposalPages(
    what="prices",
    model=PriceProposal,
    verbs=price_proposals,
    impacts=price_impacts,
    task=tasks.preview_prices,
    shown=price_pages.of,
    template="staff/prices_proposal.html",
)


@require_GET
def price_books(request: PersonRequest) -> HttpResponse:
    """List the versions of every book with their rates, and what was proposed."""
    assert_may(request, *PAGES.may_see)
    context = {
        "title": "Prices of calls",
        "books": price_pages.books(now=clock.now()),
        "may_propose": request.user.has_perm(PAGES.may_propose),
        **PAGES.listed(),
    }
    return page(request, "staff/prices.html", context)


@require_http_methods(["GET", "POST"])
def propose(request: PersonRequest, book: str) -> HttpResponse:
    """Ask for a new version, and have it previewed: at once where the month is small."""
    assert_may(request, PAGES.may_propose)
    found = get_object_or_404(PriceBook, reference=book)
    newest = price_forms.newest_of(found)
    with timezone.override("UTC"):
        form = PricesForm(request.POST or None, newest=newest)
        rates = price_forms.rates_of(newest, request.POST or None)
        if request.method == "POST" and form.is_valid() and rates.is_valid():
            try:
                made = price_proposals.propose(
                    book=found,
                    document=price_forms.document(form, rates),
                    reason=form.cleaned_data["reason"],
                    public_id=form.cleaned_data["key"],
                    by=request.user,
                    now=clock.now(),
                )
            except PriceDocumentInvalid as invalid:
                if not rates.refuse(invalid.path, invalid.reason):
                    form.add_error(invalid.path if invalid.path in form.fields else None, invalid.reason)
            except (proposing.StartPassed, proposing.StartTaken) as refused:
                form.add_error("starts_at", str(refused))
            except proposing.ProposalReused as refused:
                form.add_error(None, str(refused))
            else:
                PAGES.begin_preview(made)
                return redirect("staff_prices_proposal", made.public_id)
        context = {"title": "New prices", "book": found, "form": form, "rates": rates}
        return page(request, "staff/prices_new.html", context)
