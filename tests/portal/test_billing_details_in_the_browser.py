"""Billing details in Chromium: readable by everyone, whole on a phone, and asking as the chosen country writes."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, expect

from accounts.models import Organization
from billing_portal.billing.models import DetailsAtStripe, Invoice, InvoiceParty, InvoiceTax, TaxId
from billing_portal.billing.tax import details
from billing_portal.ledger import accounts
from tests import looks

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
BERLIN = {"line1": "Invalidenstraße 1", "line2": "", "city": "Berlin", "region": "", "postal_code": "10115"}


@pytest.fixture
def entered(acme: Organization, alice, now) -> Organization:
    """Acme, which moved once, with a tax ID in every state, recipients, and a final invoice."""
    accounts.open(organization=acme, now=now)
    acme.billing_email, acme.invoice_recipients = "bills@acme.example", ["cfo@acme.example"]
    acme.save()
    paris = {"line1": "1 rue de Rivoli", "city": "Paris", "postal_code": "75001", "country": "FR"}
    details.change(acme, user=alice, legal_name="Acme SARL", address=paris, now=now - timedelta(days=40))
    berlin = BERLIN | {"country": "DE"}
    newest = details.change(
        acme, user=alice, legal_name="Acme Robotics GmbH", address=berlin, purchase_order="PO-2026-118", now=now
    )
    DetailsAtStripe.objects.create(organization=acme, details=newest, location="supported")
    for number, status in enumerate(("verified", "pending", "unverified", "unavailable")):
        TaxId.objects.create(
            organization=acme,
            type="eu_vat",
            value=f"DE13669597{number}",
            country="DE",
            state="held",
            stripe_tax_id=f"txi_{number}",
            verification=status,
            verified_name="ACME ROBOTICS GMBH" if status == "verified" else "",
            added_at=now,
        )
    invoice = Invoice.objects.create(
        organization=acme,
        stripe_invoice_id="in_1",
        number="ACME-0007",
        state="paid",
        currency="USD",
        subtotal_minor=100_000,
        tax_minor=19_000,
        total_minor=119_000,
        amount_due_minor=119_000,
        amount_paid_minor=119_000,
        drafted_at=now,
        finalized_at=now,
        paid_at=now,
    )
    address = {name: value for name, value in berlin.items() if value}
    InvoiceParty.objects.create(
        organization=acme,
        invoice=invoice,
        details=newest,
        name=newest.legal_name,
        address=address,
        tax_ids=[["eu_vat", "DE136695970"]],
        purchase_order="PO-2026-118",
        stored_at=now,
    )
    InvoiceTax.objects.create(
        organization=acme,
        invoice=invoice,
        position=1,
        country="DE",
        name="VAT",
        percent=19,
        reason="standard_rated",
        net_minor=100_000,
        tax_minor=19_000,
    )
    return acme


@pytest.fixture
def cookies(alice, live_server) -> list[dict[str, str]]:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return [{"name": name, "value": each.value, "url": live_server.url} for name, each in client.cookies.items()]


@looks.of_page
def test_billing_details_are_sound(
    entered: Organization, live_server, chromium: Browser, cookies: list[dict[str, str]], width: int, theme: str
) -> None:
    pages = {
        "billing-details": reverse("billing_details", args=[entered.public_id]),
        "billing-details-first": reverse("billing_details_first", args=[entered.public_id]),
        "invoice-party": reverse("invoice", args=[entered.public_id, Invoice.objects.get().public_id]),
    }
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.add_cookies(cookies)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    for name, path in pages.items():
        page.goto(live_server.url + path, wait_until="networkidle")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        assert complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        looks.assert_accessible(page)


def test_it_asks_as_the_chosen_country_writes(
    entered: Organization, live_server, chromium: Browser, cookies: list[dict[str, str]]
) -> None:
    context = chromium.new_context()
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(live_server.url + reverse("billing_details", args=[entered.public_id]))
    page.get_by_label("Address", exact=True).fill("1 Main St")
    page.get_by_label("Country").first.select_option("US")
    expect(page.get_by_label("ZIP code")).to_be_visible()
    expect(page.get_by_label("Address", exact=True)).to_have_value("1 Main St")
    page.get_by_label("Country").last.select_option("JP")
    expect(page.get_by_label("Kind")).to_be_visible()
