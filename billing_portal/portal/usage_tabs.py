"""The pages about usage, as tabs that keep the days one looks at."""

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from accounts.models import Organization
from billing_portal.portal.date_ranges import Days

_TABS = (
    ("usage", "Figures"),
    ("calls", "Calls"),
    ("outcomes", "Outcomes"),
    ("changes", "What changed"),
    ("what_ifs", "What if"),
    ("comparisons", "Your own log"),
)


def of(organization: Organization, days: Days, *, current: str) -> list[dict[str, Any]]:
    """Return the tabs; `current` is the name of the view that shows them."""
    return [
        {
            "label": label,
            "url": f"{reverse(name, args=[organization.public_id])}?{urlencode(days.parameters)}",
            "current": name == current,
        }
        for name, label in _TABS
    ]
