"""What every page's frame needs: whose page it is, where one can go, and whether real money moves."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from accounts import access
from accounts.models import Membership

# View name, label, lucide icon, and how the addresses of the pages that belong to it begin, below the organization's.
_PAGES = (
    ("overview", "Overview", "layout-dashboard", {""}),
    ("usage", "Usage", "chart-column", {"usage", "outcome-rules", "prices", "exports"}),
    ("invoices", "Invoices", "receipt-text", {"invoices", "disputes"}),
    ("credits", "Credits", "coins", {"credits"}),
    ("buckets", "Buckets", "package", {"buckets", "seats"}),
    ("limits", "Limits & alerts", "gauge", {"limits"}),
    ("payment_methods", "Payment methods", "credit-card", {"payment-methods"}),
    ("developers", "Developers", "key-round", {"developers"}),
    ("settings", "Settings", "settings", {"settings", "billing-details"}),
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
    here = _section(request)
    return [
        {
            "name": name,
            "label": label,
            "icon": icon,
            "url": reverse(name, args=[membership.organization.public_id]),
            "current": here in sections,
        }
        for name, label, icon, sections in _PAGES
        if name not in _NEEDED or access.may(membership, _NEEDED[name])
    ]


def _section(request: HttpRequest) -> str | None:
    """Return where a page belongs: what its view says, else what its address begins with below the organization's."""
    if request.resolver_match is None:
        return None
    below = request.resolver_match.route.partition("<uuid:organization>/")[2]
    return getattr(request, "section", below.partition("/")[0])
