"""Outcome rules on the desk: the versions with their text, a new one proposed, previewed, asked for and decided."""

import time
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import clock, letters, queueing
from accounts.organization_view import PersonRequest
from billing_portal.support import rule_pages
from billing_portal.support.forms import DecisionForm, RevokeForm
from billing_portal.support.rule_forms import RulesForm
from usage import tasks
from usage.models import OutcomeRuleVersion, PriceBook, RuleProposal
from usage.outcomes import impacts, proposals
from usage.price_documents import PriceDocumentInvalid

_MAY_SEE = ("usage.view_ruleproposal", "usage.add_ruleproposal", "usage.decide_ruleproposal")
_MAY_PROPOSE, _MAY_DECIDE = "usage.add_ruleproposal", "usage.decide_ruleproposal"
_REFUSALS = (
    proposals.NotOpen,
    proposals.PreviewOutdated,
    proposals.SamePerson,
    proposals.StartPassed,
    proposals.StartTaken,
    proposals.TooLate,
)


@require_GET
def outcome_rules(request: PersonRequest) -> HttpResponse:
    """List the versions of every book with their text, and what was proposed."""
    _assert(request, *_MAY_SEE)
    made = RuleProposal.objects.select_related("book", "proposed_by", "decided_by", "version")
    context = {
        "title": "Outcome rules",
        "books": rule_pages.books(now=clock.now()),
        "open": list(made.filter(state__in=RuleProposal.OPEN).order_by("id")[:100]),
        "past": list(made.exclude(state__in=RuleProposal.OPEN).order_by("-id")[:50]),
        "may_propose": request.user.has_perm(_MAY_PROPOSE),
    }
    return _page(request, "staff/outcome_rules.html", context)


@require_http_methods(["GET", "POST"])
def propose(request: PersonRequest, book: str) -> HttpResponse:
    """Ask for a new version, and have it previewed: at once where the month is small."""
    _assert(request, _MAY_PROPOSE)
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
            except (proposals.StartPassed, proposals.StartTaken) as refused:
                form.add_error("starts_at", str(refused))
            except proposals.ProposalReused as refused:
                form.add_error(None, str(refused))
            else:
                _preview(made)
                return redirect("staff_rule_proposal", made.public_id)
        context = {"title": "New outcome rules", "book": found, "form": form}
        return _page(request, "staff/outcome_rules_new.html", context)


@require_GET
def proposal(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Show a proposal: its text beside the rules in force, and what it would have done to the month."""
    _assert(request, *_MAY_SEE)
    return _proposal(request, proposal, DecisionForm())


@require_POST
def preview_again(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Make the preview anew."""
    _assert(request, _MAY_PROPOSE, _MAY_DECIDE)
    _found(proposal)
    try:
        _preview(proposals.preview_again(proposal, now=clock.now()))
    except proposals.NotOpen as refused:
        messages.error(request, str(refused))
    return redirect("staff_rule_proposal", proposal)


@require_POST
def ask(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Have one's own proposal wait for a second member of staff, and tell them."""
    _assert(request, _MAY_PROPOSE)
    get_object_or_404(RuleProposal, public_id=proposal, proposed_by=request.user)
    try:
        with transaction.atomic():
            asked = proposals.ask(proposal, by=request.user, now=clock.now())
            letters.write(
                template="emails/rules_asked",
                reference=f"rules-asked:{asked.public_id}:{asked.month}",
                to=settings.STAFF_NOTICE_EMAILS,
                proposal=asked,
                now=clock.now(),
            )
    except _REFUSALS as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "A second member of staff has been asked. Nothing happens before they agree.")
    return redirect("staff_rule_proposal", proposal)


@require_POST
def approve(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Enter what another person proposed."""
    _assert(request, _MAY_DECIDE)
    _found(proposal)
    try:
        entered = proposals.approve(proposal, by=request.user, now=clock.now())
    except _REFUSALS as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{entered.version} is entered. Customers are told what it means for them.")
    return redirect("staff_rule_proposal", proposal)


@require_POST
def decline(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Refuse what another person proposed, with a reason."""
    _assert(request, _MAY_DECIDE)
    _found(proposal)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return _proposal(request, proposal, form)
    try:
        proposals.decline(proposal, by=request.user, reason=form.cleaned_data["reason"], now=clock.now())
    except _REFUSALS as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "Declined. The rules stay as they are.")
    return redirect("staff_rule_proposal", proposal)


@require_POST
def withdraw(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Take back one's own proposal."""
    _assert(request, *_MAY_SEE)
    get_object_or_404(RuleProposal, public_id=proposal, proposed_by=request.user)
    try:
        proposals.withdraw(proposal, by=request.user)
    except proposals.NotOpen as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "Withdrawn. The rules stay as they are.")
    return redirect("staff_outcome_rules")


@require_POST
def revoke(request: PersonRequest, proposal: UUID) -> HttpResponse:
    """Take entered rules back before they start, with a reason that customers read."""
    _assert(request, _MAY_DECIDE)
    _found(proposal)
    form = RevokeForm(request.POST)
    if not form.is_valid():
        return _proposal(request, proposal, DecisionForm(), revoke_form=form)
    try:
        proposals.revoke(proposal, by=request.user, reason=form.cleaned_data["reason"], now=clock.now())
    except _REFUSALS as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, "Taken back. Whoever was told of these rules is told that they do not come.")
    return redirect("staff_rule_proposal", proposal)


def _preview(proposal: RuleProposal) -> None:
    if proposal.state != proposal.State.PREVIEWING:
        return
    if impacts.is_small(proposal):
        impacts.run(proposal.pk, clock=time.monotonic)
    else:
        queueing.on_commit(tasks.preview_rules, proposal.pk)


def _proposal(
    request: PersonRequest, public_id: UUID, form: DecisionForm, *, revoke_form: RevokeForm | None = None
) -> HttpResponse:
    found = _found(public_id)
    context: dict[str, Any] = {
        "title": str(found),
        "proposal": found,
        "shown": rule_pages.of(found),
        "is_own": found.proposed_by_id == request.user.pk,
        "may_decide": request.user.has_perm(_MAY_DECIDE),
        "may_preview": request.user.has_perm(_MAY_PROPOSE) or request.user.has_perm(_MAY_DECIDE),
        "is_outdated": found.month != impacts.last_full_month(clock.now()),
        "form": form,
        "revoke_form": revoke_form or RevokeForm(),
        "may_revoke": found.state == RuleProposal.State.ENTERED
        and found.starts_at > clock.now() + proposals.LAST_TAKEN_BACK
        and request.user.has_perm(_MAY_DECIDE),
    }
    return _page(request, "staff/outcome_rules_proposal.html", context)


def _found(public_id: UUID) -> RuleProposal:
    related = RuleProposal.objects.select_related("book", "proposed_by", "decided_by", "revoked_by", "version")
    return get_object_or_404(related, public_id=public_id)


def _newest(book: PriceBook) -> OutcomeRuleVersion | None:
    return book.outcome_rules.prefetch_related("prices").order_by("-starts_at", "-id").first()


def _assert(request: PersonRequest, *permissions: str) -> None:
    """Refuse who has none of the permissions."""
    if not any(request.user.has_perm(permission) for permission in permissions):
        raise PermissionDenied


def _page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})
