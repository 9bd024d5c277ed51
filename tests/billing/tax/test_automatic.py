"""Tax on what is billed, what becomes of a draft without a place, and what the tax report makes of it."""

import csv
import io
from datetime import date, timedelta

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Letter
from billing_portal.billing import (
    credit_note_issuing,
    credit_notes,
    gateway,
    interim_walk,
    month_end,
    purchase_payment,
    purchases,
)
from billing_portal.billing.models import CreditNote, InterimInvoice, Invoice, InvoiceParty, InvoiceTax, Purchase
from billing_portal.billing.tax import automatic, details, previews, records, report
from billing_portal.ledger.models import Grant
from tests.billing.tax.places import BERLIN, NEW_YORK, NOWHERE, live
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, use

FIFTY = 50_000_000
MARCH = date(2027, 3, 1)


def walked(invoice, *, now=CLOSING):
    month_end.advance(invoice, now=now)
    return Invoice.objects.get(pk=invoice.pk)


def letters(template_word):
    return Letter.objects.filter(reference__startswith=template_word).order_by("id")


def table(month):
    """The report as its CSV has it, read again."""
    return list(csv.DictReader(io.StringIO("\n".join(",".join(line) for line in report.lines(report.rows(month))))))


def test_f43_a_month_waits_for_its_address_then_is_taxed_and_reported_to_the_cent(stripe, used, tmp_path):
    acme = used("acme", calls=12, credit_micros=0, billing_email="bills@acme.example")
    acme.invoice_recipients = ["cfo@acme.example"]
    acme.save()
    invoice = walked(invoice_of(acme))
    assert (invoice.state, invoice.waiting_for) == ("draft", automatic.NO_PLACE)
    live(acme, NOWHERE, now=CLOSING)
    assert walked(invoice).state == "draft"
    assert {each.to for each in letters("address_needed")} == {"bills@acme.example", "cfo@acme.example"}
    assert letters("address_needed").count() == 2
    assert "/billing-details/" in letters("address_needed")[0].text

    version = live(acme, BERLIN, now=CLOSING, purchase_order="PO-7")
    invoice = walked(invoice)
    net = invoice.subtotal_minor
    assert (invoice.state, invoice.tax_minor) == ("paid", invoice.total_minor - net)
    assert abs(invoice.tax_minor - net * 19 / 100) <= invoice.lines.count() / 2
    party = InvoiceParty.objects.get(invoice=invoice)
    assert (party.details, party.name, party.purchase_order) == (version, "Acme Robotics Ltd", "PO-7")
    assert (party.address["city"], party.is_taxed) == ("Berlin", True)
    (tax,) = InvoiceTax.objects.filter(invoice=invoice)
    assert (tax.net_minor, tax.tax_minor, tax.percent, tax.country, tax.name) == (
        net,
        invoice.tax_minor,
        19,
        "DE",
        "VAT",
    )
    assert [each.to for each in letters("invoice_ready")] == ["cfo@acme.example"]

    # Whoever moves afterwards has moved from the next invoice on.
    live(acme, NEW_YORK, now=CLOSING)
    records.store(invoice, now=CLOSING)
    assert InvoiceParty.objects.get().address["city"] == "Berlin"

    micros = (net * 10_000) // 3
    note = credit_notes.ask(
        invoice=invoice, micros=micros, reference="n", reason="Outage", cause=CreditNote.Cause.STAFF, now=CLOSING
    )
    assert credit_note_issuing.issue(note, now=CLOSING)
    note.refresh_from_db()
    billed, credited = table(MARCH)
    cents = {name: round(float(billed[name]) * 100) for name in ("net", "tax", "gross")}
    assert cents == {"net": net, "tax": invoice.tax_minor, "gross": invoice.total_minor}
    assert (billed["document"], billed["date"], billed["rate"]) == (invoice.number, "2027-03-01", "19.0000")
    assert (billed["customer_country"], billed["currency"], billed["reason"]) == ("DE", "USD", "standard_rated")
    assert (credited["type"], credited["document"], credited["invoice"]) == ("credit_note", note.number, invoice.number)
    assert (round(float(credited["net"]) * 100), round(float(credited["tax"]) * 100)) == (
        -note.net_minor,
        -note.tax_minor,
    )
    (total,) = report.totals(report.rows(MARCH))
    assert (total.documents, total.gross_minor) == (2, invoice.total_minor - note.total_minor)
    file = tmp_path / "tax.csv"
    call_command("tax_report", "--month", "2027-03", "--csv", str(file))
    assert len(file.read_text().splitlines()) == 3
    with pytest.raises(CommandError, match="like 2026-10"):
        call_command("tax_report", "--month", "soon")


def test_after_its_time_an_invoice_is_made_final_without_tax_and_named_in_the_report(stripe, used):
    acme = used("acme", calls=12, credit_micros=0)
    invoice = walked(invoice_of(acme))
    stripe.faults(tax={"failing": True})
    assert walked(invoice).waiting_for == automatic.FAILED
    stripe.faults(tax={})
    invoice = walked(invoice, now=invoice.drafted_at + timedelta(days=7))
    assert (invoice.state, invoice.tax_minor) == ("paid", 0)
    (row,) = table(MARCH)
    assert (row["reason"], row["tax"], row["rate"], row["tax_country"]) == ("no_location", "0.00", "0.0000", "")
    assert not InvoiceParty.objects.get().is_taxed
    assert report.unstored(MARCH) == 0


def test_nothing_to_pay_needs_no_place(stripe, used):
    invoice = walked(invoice_of(used("acme", calls=5, credit_micros=50_000_000)))
    assert (invoice.state, invoice.total_minor, letters("address_needed").count()) == ("paid", 0, 0)


def test_an_interim_invoice_that_waits_at_the_months_end_is_left_to_the_month(stripe, limited, monkeypatch, settings):
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    settings.TAX_ADDRESS_AWAITED_FOR = timedelta(days=40)
    acme = limited("acme")
    use(acme, 12, seed=1)
    interim_walk.advance_waiting(now=MIDMONTH + timedelta(hours=13))
    interim = InterimInvoice.objects.select_related("invoice").get()
    assert (interim.waiting_for, interim.invoice.state) == (automatic.NO_PLACE, "draft")
    stripe.advance_to(CLOSING.timestamp())
    assert walked(invoice_of(acme)).waiting_for == automatic.NO_PLACE
    interim.refresh_from_db()
    assert interim.state == InterimInvoice.State.VOID


@pytest.fixture
def ask(buyer):
    """Return a maker of an organization's wish to buy fifty dollars of credit by card."""

    def make(place=None):
        acme = buyer("acme")
        if place:
            live(acme.organization, place, now=MIDMONTH, purchase_order="PO-7")
        return purchases.ask(
            organization=acme.organization,
            user=acme.owner,
            micros=FIFTY,
            currency="USD",
            way=Purchase.Way.CARD,
            key=purchases.next_key(acme.organization),
            payment_method=acme.card,
            now=MIDMONTH,
        )

    return make


def test_f43_a_purchase_costs_what_its_preview_said_and_gives_the_net(stripe, ask):
    purchase = ask(NEW_YORK)
    shown = previews.of(purchase.organization, FIFTY, now=MIDMONTH)
    assert (shown.net_minor, shown.tax_minor, shown.total_minor) == (5000, 444, 5444)
    assert list(gateway.list_all("invoices")) == []
    purchase_payment.advance(purchase, now=MIDMONTH)
    invoice = Invoice.objects.get()
    assert (invoice.state, invoice.tax_minor, invoice.amount_paid_minor) == ("paid", 444, 5444)
    assert Grant.objects.get(kind="prepaid").remaining_micros == FIFTY
    party = InvoiceParty.objects.get()
    assert (party.purchase_order, party.address["state"]) == ("PO-7", "NY")
    assert InvoiceTax.objects.get().region == "NY"


def test_without_an_answer_a_preview_says_nothing(stripe, ask):
    acme = ask(BERLIN).organization
    stripe.faults(fail_next={"path": "create_preview", "count": 2})
    assert previews.of(acme, FIFTY, now=MIDMONTH) is None
    stripe.faults(fail_next={}, tax={"failing": True})
    assert previews.of(acme, FIFTY, now=MIDMONTH) is None
    stripe.faults(tax={})
    assert previews.of(acme, FIFTY, now=MIDMONTH).tax_minor == 950


def test_a_purchase_waits_a_day_for_its_tax_and_is_not_sold_without(stripe, ask):
    purchase = ask()
    assert previews.of(purchase.organization, FIFTY, now=MIDMONTH) is None
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert (purchase.state, purchase.failure) == ("paying", automatic.NO_PLACE)
    assert letters("address_needed").count() == 1
    purchase_payment.advance(purchase, now=MIDMONTH + timedelta(days=1))
    assert (purchase.state, purchase.failure) == ("failed", automatic.NO_PLACE)
    assert list(gateway.list_all("invoices")) == []
    assert details.current(purchase.organization) is None
