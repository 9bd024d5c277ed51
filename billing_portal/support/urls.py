from django.contrib import admin
from django.urls import URLPattern, path

from billing_portal.support.views import (
    approvals,
    backfills,
    disputes,
    find,
    organizations,
    prices,
    results,
    rules,
    taxes,
    trace,
)
from billing_portal.support.views.proposal_pages import ProposalPages

staff = admin.site.admin_view


def proposal_paths(under: str, pages: ProposalPages) -> list[URLPattern]:
    """Return the addresses of a proposal's page and of what is done to it."""
    at, name = f"{under}/<uuid:proposal>/", f"staff_{pages.what}"
    return [
        path(at, staff(pages.proposal), name=f"{name}_proposal"),
        path(f"{at}preview/", staff(pages.preview), name=f"{name}_preview"),
        path(f"{at}ask/", staff(pages.ask), name=f"{name}_ask"),
        path(f"{at}approve/", staff(pages.approve), name=f"{name}_approve"),
        path(f"{at}decline/", staff(pages.decline), name=f"{name}_decline"),
        path(f"{at}withdraw/", staff(pages.withdraw), name=f"{name}_withdraw"),
        path(f"{at}revoke/", staff(pages.revoke), name=f"{name}_revoke"),
    ]


urlpatterns = [
    path("find/", staff(find.find), name="staff_find"),
    path("trace/", staff(trace.trace), name="staff_trace"),
    path("organizations/<uuid:organization>/", staff(organizations.organization), name="staff_organization"),
    path("organizations/<uuid:organization>/<slug:kind>/", staff(organizations.action), name="staff_action"),
    path("results/", staff(results.board), name="staff_results"),
    path("taxes/", staff(taxes.taxes), name="staff_taxes"),
    path("disputes/", staff(disputes.disputes), name="staff_disputes"),
    path("disputes/<uuid:dispute>/", staff(disputes.dispute), name="staff_dispute"),
    path("disputes/<uuid:dispute>/write/", staff(disputes.write), name="staff_dispute_write"),
    path("backfills/", staff(backfills.backfill_list), name="staff_backfills"),
    path("backfills/<uuid:backfill>/", staff(backfills.backfill), name="staff_backfill"),
    path("backfills/<uuid:backfill>/start/", staff(backfills.start), name="staff_backfill_start"),
    path("backfills/<uuid:backfill>/cancel/", staff(backfills.cancel), name="staff_backfill_cancel"),
    path("approvals/", staff(approvals.approvals), name="staff_approvals"),
    path("approvals/<uuid:action>/", staff(approvals.approval), name="staff_approval"),
    path("approvals/<uuid:action>/approve/", staff(approvals.approve), name="staff_approve"),
    path("approvals/<uuid:action>/decline/", staff(approvals.decline), name="staff_decline"),
    path("approvals/<uuid:action>/withdraw/", staff(approvals.withdraw), name="staff_withdraw"),
    path("outcome-rules/", staff(rules.outcome_rules), name="staff_rules_list"),
    path("outcome-rules/new/<slug:book>/", staff(rules.propose), name="staff_rules_new"),
    *proposal_paths("outcome-rules", rules.PAGES),
    path("prices/", staff(prices.price_books), name="staff_prices_list"),
    path("prices/new/<slug:book>/", staff(prices.propose), name="staff_prices_new"),
    *proposal_paths("prices", prices.PAGES),
]
