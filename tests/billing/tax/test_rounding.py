"""F43: tax is what Stripe's document says; whatever it is split into adds up to it."""

from decimal import ROUND_HALF_UP, Decimal
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.billing import customers, gateway, invoices
from billing_portal.billing.models import InvoiceTax
from billing_portal.billing.tax import records, report
from tests.billing.tax.places import BERLIN, NEW_YORK, PARIS, live

amounts = st.integers(-500, 10_000)
keys = count()
few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def group(net, tax):
    return records.Group([], net, tax)


@few
@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=5), amounts, amounts)
def test_f43_groups_are_brought_to_the_documents_own_sums(pairs, net, tax):
    groups = [group(*pair) for pair in pairs]
    off = records.agreed(groups, net_minor=net, tax_minor=tax)
    assert (sum(each.net_minor for each in groups), sum(each.tax_minor for each in groups)) == (net, tax)
    assert (off == 0) == (sum(n for n, _ in pairs) == net and sum(t for _, t in pairs) == tax)


@few
@given(st.lists(st.tuples(amounts, st.integers(0, 2_000)), min_size=1, max_size=4), st.data())
def test_f43_a_credit_note_is_split_to_the_cent(pairs, data):
    taxes = [InvoiceTax(net_minor=net, tax_minor=tax) for net, tax in pairs]
    net, tax = data.draw(st.integers(0, 5_000)), data.draw(st.integers(0, 1_000))
    parts = report.split(net, tax, taxes)
    assert (sum(n for n, _ in parts), sum(t for _, t in parts)) == (net, tax)


def test_f43_lines_are_grouped_by_their_rates():
    def line(amount, *taxes):
        return {"amount": amount, "taxes": list(taxes)}

    def tax(rate, amount, behavior="exclusive"):
        return {
            "amount": amount,
            "tax_behavior": behavior,
            "taxability_reason": "standard_rated",
            "tax_rate_details": {"tax_rate": rate},
        }

    lines = [
        line(1000, tax("txr_state", 40), tax("txr_city", 45)),
        line(-300, tax("txr_city", -13), tax("txr_state", -12)),
        line(500, tax("txr_state", 20)),
        line(119, tax("txr_de", 19, "inclusive")),
        line(50),
    ]
    assert [(each.net_minor, each.tax_minor) for each in records.grouped(lines)] == [
        (700, 60),
        (500, 20),
        (100, 19),
        (50, 0),
    ]


def test_f43_what_is_stored_is_stripes_document_whatever_the_amounts(stripe, acme):
    now = stripe.now()
    customers.ensure(acme, now=now)

    @settings(few, max_examples=8)
    @given(st.sampled_from([BERLIN, PARIS, NEW_YORK]), st.lists(st.integers(-200, 3_333), min_size=1, max_size=5))
    def check(place, cents):
        live(acme, place, now=now)
        invoice = _billed(acme, [*cents, 1_001], now)
        records.store(invoice, now=now)
        rows = list(InvoiceTax.objects.filter(invoice=invoice))
        assert sum(row.tax_minor for row in rows) == invoice.tax_minor
        assert sum(row.net_minor for row in rows) == invoice.subtotal_minor == sum(cents) + 1_001
        # Stripe rounds each line; so whoever rounds the document instead is away by half a cent a line at most.
        exact = Decimal(invoice.subtotal_minor) * rows[0].percent / 100
        assert abs(invoice.tax_minor - exact) <= Decimal(len(cents) + 1) / 2
        each = [(Decimal(c) * rows[0].percent / 100).quantize(Decimal(1), ROUND_HALF_UP) for c in [*cents, 1_001]]
        assert invoice.tax_minor == sum(each)

    check()
    found = list(report.rows(now.date().replace(day=1)))
    assert sum(row.gross_minor for row in found) == sum(each.total_minor for each in acme.invoices.all())
    assert sum(total.gross_minor for total in report.totals(found)) == sum(row.gross_minor for row in found)


def _billed(acme, cents, now):
    stripe_id = acme.customer.stripe_customer_id
    draft = {"customer": stripe_id, "currency": "usd", "auto_advance": False, "automatic_tax": {"enabled": True}}
    made = gateway.create("invoices", draft, f"f43-{next(keys)}")
    for amount in cents:
        item = {"customer": stripe_id, "invoice": made["id"], "amount": amount, "currency": "usd"}
        gateway.create("invoice_items", item, f"f43-{next(keys)}")
    final = gateway.act("invoices", "finalize_invoice", made["id"], {"auto_advance": False}, f"f43-{next(keys)}")
    return invoices.receive(final, now=now)
