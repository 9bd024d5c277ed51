"""The page on which customers say whom their invoices are made out to, and the form on the way to the first charge."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership
from billing_portal.billing.models import BillingDetails, Invoice, InvoiceParty, InvoiceTax, TaxId
from billing_portal.billing.tax import automatic, details, tax_ids
from billing_portal.ledger import accounts
from tests.conftest import NOW, join

BERLIN = {"country": "DE", "line1": "Invalidenstraße 1", "city": "Berlin", "postal_code": "10115"}
FORM = BERLIN | {"legal_name": "Acme GmbH", "purchase_order": "PO-7"}


@pytest.fixture
def taxed(settings):
    settings.AUTOMATIC_TAX = True


@pytest.fixture
def client(acme, alice):
    accounts.open(organization=acme, now=NOW)
    browser = Client()
    browser.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def url(name, organization, *parts):
    return reverse(name, args=[organization.public_id, *parts])


def text_of(response):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_the_form_asks_as_the_country_writes_and_keeps_what_was_typed(client, acme):
    assert "Choose a country" in text_of(client.get(url("billing_details", acme)))
    american = client.get(url("billing_details", acme), {"country": "US", "legal_name": "Acme Inc", "line1": "1 Main"})
    assert {"ZIP code", "State"} <= set(re.findall(r"<label[^>]*>([^<]+?)\s*<", american.content.decode()))
    assert 'value="1 Main"' in american.content.decode()
    fragment = client.get(url("billing_details", acme), {"country": "JP"}, HTTP_HX_REQUEST="true")
    assert "Prefecture" in text_of(fragment)
    assert "<html" not in fragment.content.decode()
    kinds = client.get(url("billing_details", acme), {"tax_country": "JP"}, HTTP_HX_REQUEST="true")
    assert "Corporate number" in text_of(kinds)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"postal_code": "1011"}, "Enter a postal code as they are in Germany, like 26133."),
        ({"city": ""}, "Enter the city."),
        ({"country": "US", "region": "NY", "postal_code": "90210"}, "This ZIP code lies elsewhere."),
        ({"country": "US", "region": "Berlin"}, "Enter the state."),
        ({"country": "ZZ"}, "Select a valid choice"),
        ({"legal_name": ""}, "This field is required"),
    ],
)
def test_an_impossible_address_changes_nothing(client, acme, wrong, words):
    answer = client.post(url("billing_details_change", acme), FORM | wrong)
    assert (answer.status_code, words in text_of(answer)) == (200, True)
    assert not BillingDetails.objects.exists()


@pytest.mark.parametrize(
    ("country", "kind", "value", "words"),
    [
        ("DE", "eu_vat", "FR40303265045", "one of France"),
        ("DE", "eu_vat", "DE136695977", "check digits do not fit"),
        ("DE", "us_ein", "91-1144442", "Choose a kind that there is in this country"),
        ("US", "us_ein", "7", "like 91-1144442"),
    ],
)
def test_a_wrong_tax_id_changes_nothing_and_stripe_is_not_asked(client, acme, country, kind, value, words):
    answer = client.post(url("tax_id_add", acme), {"tax_country": country, "type": kind, "value": value})
    assert (answer.status_code, words in text_of(answer)) == (200, True)
    assert not TaxId.objects.exists()


def test_recipients_are_kept_and_written_to(client, acme, monkeypatch):
    answer = client.post(url("invoice_recipients", acme), {"recipients": "Bills@acme.example, cfo@acme.example"})
    assert answer.status_code == 302
    acme.refresh_from_db()
    assert (acme.billing_email, acme.invoice_recipients) == ("bills@acme.example", ["cfo@acme.example"])
    refused = client.post(url("invoice_recipients", acme), {"recipients": "bills"})
    assert "bills is not an e-mail address" in text_of(refused)


def test_a_viewer_reads_and_a_billing_manager_changes(acme, make_user, client):
    viewer = make_user("viewer@acme.example")
    join(acme, viewer, Membership.Role.VIEWER)
    address = {"line2": "", "region": ""} | BERLIN
    details.change(acme, user=None, legal_name="Acme GmbH", address=address, now=NOW)
    reader = Client()
    reader.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    page = reader.get(url("billing_details", acme))
    assert "Invalidenstraße 1" in text_of(page)
    assert "<form" not in page.content.decode().split("<main")[1]
    assert reader.post(url("billing_details_change", acme), FORM).status_code == 403


@pytest.mark.parametrize("page", ["buy_credit", "payment_method_add"])
def test_an_address_is_asked_for_on_the_way_to_the_first_charge(client, acme, taxed, page):
    asked = client.get(url(page, acme), {"amount": "50"} if page == "buy_credit" else {})
    assert asked.status_code == 302
    assert asked.url.startswith(url("billing_details_first", acme) + "?next=")
    form = client.get(asked.url)
    assert 'name="next"' in form.content.decode()
    # What is wrong is said there, and nobody loses the way.
    again = client.post(url("billing_details_change", acme), FORM | {"postal_code": "1", "next": url(page, acme)})
    assert "before anything is charged" in text_of(again)
    assert url(page, acme) in again.content.decode()


def test_top_up_and_purchase_are_not_posted_past_it(client, acme, taxed):
    terms = {"threshold": "10", "amount": "50", "ceiling": "200"}
    answer = client.post(url("top_up_on", acme), terms)
    assert answer.url.startswith(url("billing_details_first", acme))
    assert "amount%3D50" in answer.url


def test_one_goes_on_only_within_the_organization(client, acme, stripe, taxed):
    here = url("buy_credit", acme) + "?amount=50"
    assert client.post(url("billing_details_change", acme), FORM | {"next": here}).url == here
    assert details.at_stripe(acme).location == "supported"
    assert client.get(here).status_code == 200
    for elsewhere in ("https://evil.example/", "//evil.example", "/staff/", ""):
        back = client.post(url("billing_details_change", acme), FORM | {"next": elsewhere})
        assert back.url == url("billing_details", acme)


def test_a_tax_id_is_added_shown_and_removed(client, acme, stripe):
    form = {"tax_country": "DE", "type": "eu_vat", "value": "de 136 695 976"}
    assert client.post(url("tax_id_add", acme), form).status_code == 302
    page = text_of(client.get(url("billing_details", acme)))
    assert "DE136695976" in page
    assert "Being verified" in page
    held = tax_ids.of(acme).get()
    assert client.post(url("tax_id_remove", acme, held.public_id)).status_code == 302
    assert not tax_ids.of(acme).exists()


def test_a_purchase_shows_net_tax_and_total_before_the_click(client, acme, stripe, taxed):
    client.post(url("billing_details_change", acme), FORM)
    page = text_of(client.get(url("buy_credit", acme), {"amount": "50"}))
    assert "Before tax $50.00 Tax $9.50 You pay $59.50" in page
    assert "Pay $59.50 at Stripe" in page
    stripe.faults(tax={"failing": True})
    assert "$51.00 plus tax, where it applies" in text_of(client.get(url("buy_credit", acme), {"amount": "51"}))


def test_an_invoice_says_whom_it_was_made_out_to(client, acme):
    invoice = Invoice.objects.create(
        organization=acme,
        stripe_invoice_id="in_1",
        number="A-1",
        state="paid",
        currency="USD",
        subtotal_minor=1000,
        tax_minor=190,
        total_minor=1190,
        drafted_at=NOW,
        finalized_at=NOW,
    )
    assert "Made out to" not in text_of(client.get(url("invoice", acme, invoice.public_id)))
    address = {"line1": "Invalidenstraße 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}
    said = {"name": "Acme GmbH", "address": address, "tax_ids": [["eu_vat", "DE136695976"]], "purchase_order": "PO-7"}
    InvoiceParty.objects.create(organization=acme, invoice=invoice, stored_at=NOW, **said)
    row = {"organization": acme, "invoice": invoice, "position": 1, "country": "DE", "name": "VAT", "percent": 19}
    InvoiceTax.objects.create(**row, reason="standard_rated", net_minor=1000, tax_minor=190)
    page = text_of(client.get(url("invoice", acme, invoice.public_id)))
    for words in ("Acme GmbH", "10115 Berlin", "VAT number DE136695976", "Purchase order PO-7", "VAT 19% $1.90"):
        assert words in page


def test_a_draft_that_waits_for_the_address_leads_to_it(client, acme):
    invoice = Invoice.objects.create(
        organization=acme, stripe_invoice_id="in_1", currency="USD", drafted_at=NOW, waiting_for=automatic.NO_PLACE
    )
    page = client.get(url("invoice", acme, invoice.public_id)).content.decode()
    assert "waits for your billing address" in page
    assert url("billing_details", acme) in page
