"""Outcome rules on the desk: the versions with their text, and a new one proposed."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import clock
from accounts.organization_view import PersonRequest
from billing_portal.support import rule_pages
from billing_portal.support.rule_forms import RulesForm
from billing_portal.support.views.proposal_pages import ProposalPages, assert_may, page
from usage import proposing, tasks
from usage.models import OutcomeRuleVersion, PriceBook, RuleProposal
from usage.outcomes import impacts, proposals
from usage.price_documents import PriceDocumentInvalid

PAGES = ProposalPages(
    what="rules",
    model=RuleProposal,
    verbs=proposals,
    impacts=impacts,
    task=tasks.preview_rules,
    shown=rule_pages.of,
    template="staff/outcome_rules_proposal.html",
)


@require_GET
def outcome_rules(request: PersonRequest) -> HttpResponse:
    """List the versions of every book with their text, and what was proposed."""
    assert_may(request, *PAGES.may_see)
    context = {
        "title": "Outcome rules",
        "books": rule_pages.books(now=clock.now()),
        "may_propose": request.user.has_perm(PAGES.may_propose),
        **PAGES.listed(),
    }
    return page(request, "staff/outcome_rules.html", context)


@require_http_methods(["GET", "POST"])
def propose(request: PersonRequest, book: str) -> HttpResponse:
    """Ask for a new version, and have it previewed: at once where the month is small."""
    assert_may(request, PAGES.may_propose)
    found = get_object_or_404(PriceBook, reference=book)
    with timezone.override("UTC"):
        form = RulesForm(request.POST or None, book=found, newest=_newest(found))
        if request.method == "POST" and form.is_valid():
            try:
                made = proposals.propose(
                    book=found,
                    document=form.document,
                    reason=form.cleaned_data["reason"],
                    public_id=form.cleaned_data["key"],
                    by=request.user,
                    now=clock.now(),
                )
            except PriceDocumentInvalid as invalid:
                form.refuse(invalid.path, invalid.reason)
            except (proposing.StartPassed, proposing.StartTaken) as refused:
                form.add_error("starts_at", str(refused))
            except proposing.ProposalReused as refused:
                form.add_error(None, str(refused))
            else:
                PAGES.begin_preview(made)
                return redirect("staff_rules_proposal", made.public_id)
        context = {"title": "New outcome rules", "book": found, "form": form}
        return page(request, "staff/outcome_rules_new.html", context)


def _newest(book: PriceBook) -> OutcomeRuleVersion | None:
    return book.outcome_rules.prefetch_related("prices").order_by("-starts_at", "-id").first()
