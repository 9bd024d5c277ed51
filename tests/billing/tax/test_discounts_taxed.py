"""Discounts under automatic tax: the tax is on what is left, everything adds up, and what is disputed comes back so."""

import uuid
from collections import Counter
from datetime import timedelta

from django.test import Client

from billing_portal.billing import amounts_due, credit_note_issuing, discounts, month_end, reconciliation
from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Invoice, InvoiceTax
from billing_portal.ledger import balances, verification
from billing_portal.ledger.models import Account
from tests.billing.receipts.conftest import assert_all_verified, packed, verify
from tests.billing.tax.places import BERLIN, live
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of
from tests.conftest import join
from usage.shares import Grouping


def discounted(organization):
    """Walk the month of a customer in Berlin who pays 20 % less and three dollars less."""
    given = {"organization": organization, "first_month": MONTH, "months": None, "reason": "Partner", "now": MIDMONTH}
    discounts.enter(percent_hundredths=2_000, amount_micros=None, reference="percent", **given)
    discounts.enter(percent_hundredths=None, amount_micros=3_000_000, reference="amount", **given)
    live(organization, BERLIN, now=CLOSING, purchase_order="PO-7")
    invoice = invoice_of(organization)
    month_end.advance(invoice, now=CLOSING)
    return Invoice.objects.get(pk=invoice.pk)


def test_f43_i10_i11_a_discounted_month_is_taxed_on_what_is_left_and_a_disputed_line_gives_back_both(
    stripe, used, make_user, tmp_path
):
    acme = used("acme", calls=24, credit_micros=1_000_000, card="pm_card_chargeCustomerFail")
    invoice = discounted(acme)
    lines = list(invoice.lines.order_by("position").values())
    sums: Counter[str] = Counter()
    for line in lines:
        sums[line["grant_kind"]] += line["amount_minor"]
    net = invoice.subtotal_minor
    assert (invoice.state, net) == ("open", sums.total())
    assert sums["discount"] < -3_00
    assert -1_01 <= sums["welcome"] <= -99
    assert invoice.total_minor == net + invoice.tax_minor == invoice.amount_due_minor
    assert abs(invoice.tax_minor - net * 19 / 100) <= len(lines) / 2
    tax = InvoiceTax.objects.get(invoice=invoice)
    assert (tax.net_minor, tax.tax_minor, tax.percent) == (net, invoice.tax_minor, 19)
    for grouping in (Grouping.AGENT, Grouping.MODEL, Grouping.DAY):
        rows = amounts_due.compute(invoice, grouping, now=CLOSING)
        assert sum(row.due_minor for row in rows) == invoice.amount_due_minor
    said = verify(packed(invoice, tmp_path / "receipt.zip"))
    assert said.verified, said.text
    assert "taken off by discounts: " in said.text
    assert "19.0000 % on" in said.text

    olivia, now = make_user("olivia@acme.example"), CLOSING + timedelta(hours=1)
    join(acme, olivia, "owner")
    client = Client()
    client.force_login(olivia, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/o/{acme.public_id}/invoices/{invoice.public_id}/receipt/").content.decode()
    for shown in ("Acme Robotics Ltd", "Invalidenstraße 1", "PO-7", "20% off", "$3.00 off a month", "Partner"):
        assert shown in page, shown

    # A line that was wrong comes back with its discount taken off and its tax put on, by a credit note.
    reference = subjects.line_reference(invoice, "voice")
    subject = subjects.find(acme, "invoice_line", reference)
    of_voice = [line for line in lines if line["component"] == "voice" and line["grant_kind"] != "welcome"]
    voice = sum(line["amount_minor"] for line in of_voice)
    assert subject.amount_micros == voice * 10_000 < subject.price_micros
    form = client.get(f"/o/{acme.public_id}/disputes/new/?kind=invoice_line&reference={reference}").content.decode()
    assert "less its part of your discounts" in form
    dispute = cases.open(
        organization=acme,
        kind="invoice_line",
        reference=reference,
        reason="wrong_price",
        text="Another voice was agreed.",
        claimed_micros=subject.amount_micros,
        public_id=uuid.uuid4(),
        by=olivia,
        now=now,
    )
    before = balances.balance(Account.objects.get(organization=acme), now=now).accrued_micros
    note = cases.grant(dispute, micros=subject.amount_micros, decision="So it was", by=olivia, now=now).credit_note
    assert credit_note_issuing.issue(note, now=now)
    note.refresh_from_db()
    invoice.refresh_from_db()
    assert (note.state, note.net_minor) == ("issued", voice)
    assert abs(note.tax_minor - voice * invoice.tax_minor / net) < 1
    assert invoice.pre_credited_minor == note.total_minor == voice + note.tax_minor
    left = balances.balance(Account.objects.get(organization=acme), now=now).accrued_micros
    assert before - left == subject.amount_micros
    assert list(invoice.lines.order_by("position").values()) == lines
    assert subjects.find(acme, "invoice_line", reference).amount_micros == subject.amount_micros
    assert cases.most_micros(subject) == 0
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert list(verification.verify(acme.pk)) == []
    assert assert_all_verified(acme, tmp_path) == 1
