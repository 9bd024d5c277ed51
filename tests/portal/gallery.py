"""Every component with plausible data on one page: what tests/portal/test_gallery.py looks at."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from billing_portal.portal.charts import share_bar, sparkline, stacked

STARTS_ON = date(2026, 10, 23)
WEIGHTS = {
    "platform": 5_500_000,
    "voice": 14_000_000,
    "llm": 9_000_000,
    "telephony": 6_000_000,
    "add_on": 2_500_000,
    "per_call": 1_700_000,
    "token_surcharge": 900_000,
}
NAV = [
    ("overview", "Overview", "layout-dashboard"),
    ("usage", "Usage", "chart-column"),
    ("invoices", "Invoices", "receipt-text"),
    ("credits", "Credits", "coins"),
    ("payment_methods", "Payment methods", "credit-card"),
    ("settings", "Settings", "settings"),
]


class GalleryForm(forms.Form):
    name = forms.CharField(help_text="As it stands on invoices.")
    email = forms.EmailField(label="Billing e-mail", required=False)
    zone = forms.ChoiceField(label="Time zone", choices=[("Europe/Berlin", "Europe/Berlin"), ("UTC", "UTC")])
    kind = forms.ChoiceField(choices=[("company", "Company"), ("person", "Person")], widget=forms.RadioSelect)
    note = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    terms = forms.BooleanField(label="I accept the terms of service")


def usage_by_day(days: int = 30) -> dict[tuple[date, str], int]:
    """Return a month with a weekly rhythm, deterministic and without two equal days."""
    return {
        (STARTS_ON + timedelta(days=index), key): weight
        * (60 + (index * 37) % 41)
        // 100
        // (3 if index % 7 in (1, 2) else 1)
        for index in range(days)
        for key, weight in WEIGHTS.items()
    }


def context() -> dict[str, object]:
    amounts = usage_by_day()
    chart = stacked.by_day(amounts, starts_on=STARTS_ON, ends_on=STARTS_ON + timedelta(days=29), currency="USD")
    now = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
    calls = [
        SimpleNamespace(
            id=f"call_{index}a4441234567890abcdef1234567",
            at=now - timedelta(minutes=7 * index),
            agent="Front desk",
            status=status,
            tone=tone,
            ms=ms,
            micros=micros,
        )
        for index, (status, tone, ms, micros) in enumerate(
            [
                ("Ended", "good", 97_000, 152_150),
                ("Ended", "good", 3_725_000, 5_842_500),
                ("Not connected", "neutral", 0, 0),
                ("Waits for a price", "warn", 41_000, 61_900),
                ("Error", "bad", 4_200, 7_000),
            ]
        )
    ]
    organization = SimpleNamespace(name="Brightline Dental", public_id="1")
    return {
        "vendor_name": "Parley Voice",
        "is_sandbox": True,
        "organization": organization,
        "organizations": [organization, SimpleNamespace(name="Harbor Logistics", public_id="2")],
        "membership": SimpleNamespace(get_role_display="Owner"),
        "user": SimpleNamespace(is_authenticated=True, email="alice@brightline.example"),
        "nav": [
            {"name": name, "label": label, "icon": icon, "url": f"#{name}", "current": name == "usage"}
            for name, label, icon in NAV
        ],
        "currency": "USD",
        "starts_on": date(2026, 11, 1),
        "now": now,
        "chart": chart,
        "shares": share_bar.shares([(part.key, part.label, part.micros) for part in chart.series]),
        "line": sparkline.of([column.micros for column in chart.columns]),
        "ranges": [{"label": label, "url": f"#{label}", "current": label == "30d"} for label in ("7d", "30d", "90d")],
        "tabs": [{"label": label, "url": f"#{label}", "current": label == "Company"} for label in ("Company", "Team")],
        "crumbs": [{"label": "Invoices", "url": "#invoices"}, {"label": "November 2026"}],
        "calls": calls,
        "form": GalleryForm({"name": "", "email": "nobody", "zone": "UTC", "kind": "person"}),
    }


def gallery(request: HttpRequest) -> HttpResponse:
    messages.success(request, "Card saved. It pays from now on.")
    return render(request, "components/_gallery.html", context())


urlpatterns = [path("gallery/", gallery)]
