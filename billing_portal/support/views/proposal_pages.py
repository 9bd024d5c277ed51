"""What the desk's pages of proposed rules and of proposed prices have in common: everything after the form."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, letters, queueing
from accounts.organization_view import PersonRequest
from billing_portal.support.forms import DecisionForm, RevokeForm
from usage import previews, proposing
from usage.models.proposals import Proposal, ProposalState

_REFUSALS = (
    proposing.InUse,
    proposing.NotOpen,
    proposing.PreviewOutdated,
    proposing.SamePerson,
    proposing.StartPassed,
    proposing.StartTaken,
    proposing.TooLate,
)
_VERBS = ("preview", "ask", "approve", "decline", "withdraw", "revoke")


@dataclass(frozen=True)
class ProposalPages:
    """The pages of one kind. `what` names what is proposed in the plural, as its URLs and sentences do.

    `verbs` is the module of its verbs, `impacts` the one of its preview, `task` makes that behind the page.
    """

    what: str
    model: type[Proposal]
    verbs: Any
    impacts: Any
    task: Any
    shown: Callable[[Any], Any]
    template: str

    @property
    def may_propose(self) -> str:
        return f"usage.add_{self.model._meta.model_name}"

    @property
    def may_decide(self) -> str:
        return f"usage.decide_{self.model._meta.model_name}"

    @property
    def may_see(self) -> tuple[str, ...]:
        return (f"usage.view_{self.model._meta.model_name}", self.may_propose, self.may_decide)

    @method_decorator(require_GET)
    def proposal(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Show a proposal: what it says beside what is in force, and what it would have done to the month."""
        assert_may(request, *self.may_see)
        return self._page(request, proposal, DecisionForm())

    @method_decorator(require_POST)
    def preview(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Make the preview anew."""
        assert_may(request, self.may_propose, self.may_decide)
        self._found(proposal)
        try:
            self.begin_preview(self.verbs.preview_again(proposal, now=clock.now()))
        except proposing.NotOpen as refused:
            messages.error(request, str(refused))
        return redirect(self._url("proposal"), proposal)

    @method_decorator(require_POST)
    def ask(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Have one's own proposal wait for a second member of staff, and tell them."""
        assert_may(request, self.may_propose)
        get_object_or_404(self.model, public_id=proposal, proposed_by=request.user)
        try:
            with transaction.atomic():
                asked = self.verbs.ask(proposal, by=request.user, now=clock.now())
                letters.write(
                    template="emails/proposal_asked",
                    reference=f"{self.what}-asked:{asked.public_id}:{asked.month}",
                    to=settings.STAFF_NOTICE_EMAILS,
                    proposal=asked,
                    what=self.what,
                    path=reverse(self._url("proposal"), args=[asked.public_id]),
                    now=clock.now(),
                )
        except _REFUSALS as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, "A second member of staff has been asked. Nothing happens before they agree.")
        return redirect(self._url("proposal"), proposal)

    @method_decorator(require_POST)
    def approve(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Enter what another person proposed."""
        assert_may(request, self.may_decide)
        self._found(proposal)
        try:
            entered = self.verbs.approve(proposal, by=request.user, now=clock.now())
        except _REFUSALS as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, f"{entered.version} is entered. Customers are told what it means for them.")
        return redirect(self._url("proposal"), proposal)

    @method_decorator(require_POST)
    def decline(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Refuse what another person proposed, with a reason."""
        assert_may(request, self.may_decide)
        self._found(proposal)
        form = DecisionForm(request.POST)
        if not form.is_valid():
            return self._page(request, proposal, form)
        try:
            self.verbs.decline(proposal, by=request.user, reason=form.cleaned_data["reason"], now=clock.now())
        except _REFUSALS as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, f"Declined. The {self.what} stay as they are.")
        return redirect(self._url("proposal"), proposal)

    @method_decorator(require_POST)
    def withdraw(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Take back one's own proposal."""
        assert_may(request, *self.may_see)
        get_object_or_404(self.model, public_id=proposal, proposed_by=request.user)
        try:
            self.verbs.withdraw(proposal, by=request.user)
        except proposing.NotOpen as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, f"Withdrawn. The {self.what} stay as they are.")
        return redirect(self._url("list"))

    @method_decorator(require_POST)
    def revoke(self, request: PersonRequest, proposal: UUID) -> HttpResponse:
        """Take back what was entered before it starts, with a reason that customers read."""
        assert_may(request, self.may_decide)
        self._found(proposal)
        form = RevokeForm(request.POST)
        if not form.is_valid():
            return self._page(request, proposal, DecisionForm(), revoke_form=form)
        try:
            self.verbs.revoke(proposal, by=request.user, reason=form.cleaned_data["reason"], now=clock.now())
        except _REFUSALS as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, "Taken back. Whoever was told of it is told that it does not come.")
        return redirect(self._url("proposal"), proposal)

    def begin_preview(self, proposal: Any) -> None:
        """Make a preview: at once where the month is small, else behind the page."""
        if proposal.state != ProposalState.PREVIEWING:
            return
        if self.impacts.is_small(proposal):
            self.impacts.run(proposal.pk, clock=time.monotonic)
        else:
            queueing.on_commit(self.task, proposal.pk)

    def listed(self) -> dict[str, Any]:
        """Return what a list shows of proposals: the open ones, and the newest of those that ended."""
        rows: Any = self.model._default_manager
        made = rows.select_related("book", "proposed_by", "decided_by", "version")
        return {
            "what": self.what,
            "open": list(made.filter(state__in=Proposal.OPEN).order_by("id")[:100]),
            "past": list(made.exclude(state__in=Proposal.OPEN).order_by("-id")[:50]),
            "proposal_url": self._url("proposal"),
        }

    def _page(
        self, request: PersonRequest, public_id: UUID, form: DecisionForm, *, revoke_form: RevokeForm | None = None
    ) -> HttpResponse:
        found = self._found(public_id)
        may_decide = request.user.has_perm(self.may_decide)
        is_to_come = found.starts_at > clock.now() + proposing.LAST_TAKEN_BACK
        context: dict[str, Any] = {
            "title": str(found),
            "what": self.what,
            "proposal": found,
            "shown": self.shown(found),
            "is_own": found.proposed_by_id == request.user.pk,
            "may_decide": may_decide,
            "may_preview": request.user.has_perm(self.may_propose) or may_decide,
            "may_revoke": may_decide and is_to_come and found.state == ProposalState.ENTERED,
            "is_outdated": found.month != previews.last_full_month(clock.now()),
            "form": form,
            "revoke_form": revoke_form or RevokeForm(),
            "urls": {verb: reverse(self._url(verb), args=[public_id]) for verb in _VERBS},
        }
        return page(request, self.template, context)

    def _found(self, public_id: UUID) -> Any:
        rows: Any = self.model._default_manager
        people = ("proposed_by", "decided_by", "revoked_by")
        return get_object_or_404(rows.select_related("book", "version", *people), public_id=public_id)

    def _url(self, name: str) -> str:
        return f"staff_{self.what}_{name}"


def assert_may(request: PersonRequest, *permissions: str) -> None:
    """Refuse who has none of the permissions."""
    if not any(request.user.has_perm(permission) for permission in permissions):
        raise PermissionDenied


def page(request: PersonRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Render a page of the desk."""
    return render(request, template, {**admin.site.each_context(request), **context})
