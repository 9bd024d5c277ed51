"""The receipt's page in Chromium: sound wide and narrow, in light and dark, while the file is made and afterwards."""

import os
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect

from billing_portal.billing import discounts
from billing_portal.billing.models import Invoice, InvoiceParty, ReceiptFile
from billing_portal.billing.receipts import jobs, sealing
from billing_portal.ledger import accounts, settlement
from tests import looks
from tests.billing import world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def invoice(acme, now, monkeypatch, settings, tmp_path) -> Invoice:
    """Acme's paid invoice of ten calls, discounted and made out to an address, whose receipt is signed."""
    settings.EXPORTS_DIR = tmp_path / "exports"
    later = now + timedelta(hours=3)
    monkeypatch.setattr("accounts.clock.now", lambda: later)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 10, starts_at=now, now=later)
    settlement.settle_all(acme.pk, now=later)
    month, terms = now.date().replace(day=1), {"percent_hundredths": 1_500, "amount_micros": None, "months": 12}
    discounts.enter(organization=acme, first_month=month, reason="Launch partner", reference="form", now=later, **terms)
    with transaction.atomic():
        discounts.apply_to_open(accounts.lock(acme.pk), now=later)
    made = Invoice.objects.create(
        organization=acme,
        stripe_invoice_id="in_1",
        number="PARLEY-0007",
        month=month,
        state="paid",
        currency="USD",
        drafted_at=later,
        finalized_at=later,
    )
    InvoiceParty.objects.create(
        organization=acme,
        invoice=made,
        name="Acme Robotics Ltd",
        address={"line1": "Invalidenstraße 1", "postal_code": "10115", "city": "Berlin", "country": "DE"},
        tax_ids=[["eu_vat", "DE136695976"]],
        purchase_order="PO-2026-117",
        is_taxed=True,
        stored_at=later,
    )
    sealing.seal(made, now=later)
    return made


def test_the_page_is_sound_and_shows_how_far_the_file_is(chromium, live_server, acme, alice, invoice):
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    file = jobs.ask(invoice, now=invoice.drafted_at)
    ReceiptFile.objects.filter(pk=file.pk).update(state="writing", lines=1_200_345, lines_done=420_000)
    complaints: list[str] = []
    for width, theme in ((1360, "light"), (400, "dark")):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
        context.add_cookies([cookie])
        page = context.new_page()
        page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
        page.goto(live_server.url + reverse("receipt", args=[acme.public_id, invoice.public_id]))
        expect(page.get_by_role("progressbar")).to_be_visible()
        if width == 400:
            # The page asks by itself: what becomes ready shows without a reload.
            ReceiptFile.objects.filter(pk=file.pk).update(state="waiting", lease=None)
            jobs.write(file.pk, clock=lambda: invoice.drafted_at)
            expect(page.get_by_role("link", name="Download the receipt")).to_be_visible()
        for address in (None, reverse("receipt_keys")):
            if address:
                page.goto(live_server.url + address)
            if shots := os.environ.get("SCREENSHOTS"):
                name = "keys" if address else "receipt"
                page.screenshot(path=f"{shots}/{name}-{width}-{theme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            looks.assert_accessible(page)
        assert complaints == []
        context.close()
