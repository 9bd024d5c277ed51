from django.contrib import admin
from django.urls import path

from billing_portal.support.views import approvals, backfills, disputes, find, organizations, results, rules, trace

staff = admin.site.admin_view

urlpatterns = [
    path("find/", staff(find.find), name="staff_find"),
    path("trace/", staff(trace.trace), name="staff_trace"),
    path("organizations/<uuid:organization>/", staff(organizations.organization), name="staff_organization"),
    path("organizations/<uuid:organization>/<slug:kind>/", staff(organizations.action), name="staff_action"),
    path("results/", staff(results.board), name="staff_results"),
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
    path("outcome-rules/", staff(rules.outcome_rules), name="staff_outcome_rules"),
    path("outcome-rules/new/<slug:book>/", staff(rules.propose), name="staff_propose_rules"),
    path("outcome-rules/<uuid:proposal>/", staff(rules.proposal), name="staff_rule_proposal"),
    path("outcome-rules/<uuid:proposal>/preview/", staff(rules.preview_again), name="staff_preview_rules"),
    path("outcome-rules/<uuid:proposal>/ask/", staff(rules.ask), name="staff_ask_for_rules"),
    path("outcome-rules/<uuid:proposal>/approve/", staff(rules.approve), name="staff_approve_rules"),
    path("outcome-rules/<uuid:proposal>/decline/", staff(rules.decline), name="staff_decline_rules"),
    path("outcome-rules/<uuid:proposal>/withdraw/", staff(rules.withdraw), name="staff_withdraw_rules"),
    path("outcome-rules/<uuid:proposal>/revoke/", staff(rules.revoke), name="staff_revoke_rules"),
]
