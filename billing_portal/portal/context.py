"""What every page's frame needs: whose page it is, where one can go, and whether real money moves."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from accounts import access
from accounts.models import Organization

# View name, label, lucide icon, and the names of the views that belong to it.
_PAGES = (
    ("overview", "Overview", "layout-dashboard", {"overview"}),
    ("usage", "Usage", "chart-column", {"usage", "call"}),
    ("invoices", "Invoices", "receipt-text", {"invoices", "invoice", "invoice_line"}),
    ("credits", "Credits", "coins", {"credits"}),
    ("payment_methods", "Payment methods", "credit-card", {"payment_methods", "payment_method_add"}),
    ("settings", "Settings", "settings", {"settings"}),
)


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
        "organizations": access.organizations_of(membership.user),
        "nav": _nav(request, membership.organization),
        "may_manage_billing": access.may(membership, access.Permission.MANAGE_BILLING),
        "may_manage_settings": access.may(membership, access.Permission.MANAGE_SETTINGS),
    }


def _nav(request: HttpRequest, organization: Organization) -> list[dict[str, Any]]:
    here = request.resolver_match.url_name if request.resolver_match else None
    return [
        {
            "name": name,
            "label": label,
            "icon": icon,
            "url": reverse(name, args=[organization.public_id]),
            "current": here in views,
        }
        for name, label, icon, views in _PAGES
    ]
