"""What every page's frame needs: whose page it is, where one can go, and whether real money moves."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from accounts import access
from accounts.models import Membership

# View name, label, lucide icon, and the names of the views that belong to it.
_PAGES = (
    ("overview", "Overview", "layout-dashboard", {"overview"}),
    (
        "usage",
        "Usage",
        "chart-column",
        {
            "usage",
            "calls",
            "metadata_keys",
            "saved_views",
            "call",
            "outcomes",
            "conversations",
            "conversation",
            "trace",
            "exports",
            "changes",
            "change",
            "what_ifs",
            "what_if_new",
            "what_if",
            "outcome_rules",
            "prices",
            "comparisons",
            "comparison_new",
            "comparison",
            "comparison_start",
        },
    ),
    (
        "invoices",
        "Invoices",
        "receipt-text",
        {
            "invoices",
            "invoice",
            "invoice_line",
            "invoice_payment",
            "receipt",
            "disputes",
            "dispute_new",
            "dispute",
            "dispute_write",
            "amount_due",
        },
    ),
    (
        "credits",
        "Credits",
        "coins",
        {"credits", "buy_credit", "buy_credit_pay", "purchases", "purchase", "top_up", "top_up_on"},
    ),
    (
        "buckets",
        "Buckets",
        "package",
        {"buckets", "bucket", "bucket_offers", "bucket_offer", "bucket_buy", "bucket_planner", "seats"},
    ),
    ("limits", "Limits & alerts", "gauge", {"limits", "limits_cap", "limits_alerts"}),
    ("payment_methods", "Payment methods", "credit-card", {"payment_methods", "payment_method_add"}),
    (
        "developers",
        "Developers",
        "key-round",
        {"developers", "developer_key_new", "developer_key", "developer_key_rotate"},
    ),
    ("settings", "Settings", "settings", {"settings", "billing_details", "billing_details_first"}),
)
# Pages that not every member may open; the others find no link to them.
_NEEDED = {"developers": access.Permission.MANAGE_KEYS}


def portal(request: HttpRequest) -> dict[str, Any]:
    """Return the frame's variables; the organization's only where a page belongs to one."""
    context: dict[str, Any] = {
        "vendor_name": settings.VENDOR_NAME,
        "support_email": settings.SUPPORT_EMAIL,
        "terms_version": settings.TERMS_VERSION,
        "is_sandbox": settings.STRIPE_IS_SANDBOX,
    }
    membership = getattr(request, "membership", None)
    if membership is None:
        return context
    return context | {
        "organization": membership.organization,
        "membership": membership,
        "organizations": [each.organization for each in membership.beside],
        "nav": _nav(request, membership),
        "may_manage_billing": access.may(membership, access.Permission.MANAGE_BILLING),
        "may_manage_settings": access.may(membership, access.Permission.MANAGE_SETTINGS),
    }


def _nav(request: HttpRequest, membership: Membership) -> list[dict[str, Any]]:
    here = request.resolver_match.url_name if request.resolver_match else None
    return [
        {
            "name": name,
            "label": label,
            "icon": icon,
            "url": reverse(name, args=[membership.organization.public_id]),
            "current": here in views,
        }
        for name, label, icon, views in _PAGES
        if name not in _NEEDED or access.may(membership, _NEEDED[name])
    ]
