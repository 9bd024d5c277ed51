"""Credit: what is left, from which grants, and where it went."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import cards
from billing_portal.ledger import authorization, balances, statements
from billing_portal.ledger.models import Account, Grant


@require_GET
@organization_view(Permission.VIEW_BILLING)
def credits_page(request: OrganizationRequest) -> HttpResponse:
    """Show the balance, every grant in burn order, and the movements of credit with the balance after each."""
    now = clock.now()
    account = get_object_or_404(Account.objects.select_related("organization"), organization=request.organization)
    has_card = cards.has_usable_card(request.organization)
    context = {
        "balance": balances.balance(account, now=now),
        "authorization": authorization.authorize(account, has_card=has_card, now=now),
        "has_card": has_card,
        "account": account,
        "grants": list(Grant.objects.filter(organization=request.organization)),
        "statement": list(statements.credit_lines(account)),
        "now": now,
    }
    return render(request, "portal/credits.html", context)
