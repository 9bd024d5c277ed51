"""What the amount due is for: every grouping of an invoice's calls adds up to it, to the minor unit."""

from collections import Counter
from datetime import date, timedelta

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import api_keys
from billing_portal.billing import amounts_due, minor_units
from billing_portal.billing.amounts_due import Row
from billing_portal.billing.models import AmountDue, Invoice, InvoiceLine
from billing_portal.ledger import accounts, settlement, totals
from tests.billing import world
from tests.charged import all_charges
from usage import charges, metadata_usage, shares
from usage.shares import Grouping

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def used(acme, now):
    """Acme with 30 calls of two days in October, settled."""
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    for seed in (1, 2):
        world.record_calls(acme, 15, starts_at=now + timedelta(days=seed), now=now + timedelta(days=5), seed=seed)
    settlement.settle_all(acme.pk, now=now + timedelta(days=5))
    return acme


def billed(organization, now, *, off=None, tax=0, discount=0, balance=0, number="ACME-1", state="paid", other=0):
    """Return October's invoice as Stripe would have made it: usage lines rounded once, less `off` by component."""
    gross = totals.month(organization.pk, OCTOBER).gross
    lines = [(name, minor_units.from_micros(micros, "USD"), "usage") for name, micros in gross.items()]
    lines += [(name, -minor, "credit") for name, minor in (off or {}).items()]
    lines += [("", other, "other")] if other else []
    subtotal = sum(minor for _, minor, _ in lines)
    total = subtotal - discount + tax
    invoice = Invoice.objects.create(
        organization=organization,
        stripe_invoice_id=f"in_{number}",
        number=number,
        month=OCTOBER,
        currency="USD",
        subtotal_minor=subtotal,
        tax_minor=tax,
        total_minor=total,
        amount_due_minor=total + balance,
        drafted_at=now,
    )
    for position, (component, minor, kind) in enumerate(lines):
        InvoiceLine.objects.create(
            organization=organization,
            invoice=invoice,
            stripe_line_id=f"il_{position}",
            position=position,
            kind=kind,
            component=component,
            grant_kind="welcome" if kind == "credit" else "",
            amount_minor=minor,
            currency="USD",
        )
    Invoice.objects.filter(pk=invoice.pk).update(state=state)
    invoice.refresh_from_db()
    return invoice


def test_i10_every_grouping_comes_to_the_amount_due(used, now):
    invoice = billed(used, now, off={"voice": 7}, tax=23, discount=11, balance=-5)
    for grouping in (Grouping.AGENT, Grouping.MODEL, Grouping.DAY):
        rows = amounts_due.compute(invoice, grouping, now=now)
        assert sum(row.due_minor for row in rows) == invoice.amount_due_minor
        assert sum(row.due_micros for row in rows) == invoice.amount_due_minor * 10_000
        assert sum(row.calls for row in rows) == 30
        assert sum(row.usage_micros for row in rows) == sum(totals.month(used.pk, OCTOBER).gross.values())
        assert [(row.kind, row.due_minor) for row in rows if not row.calls] == [("balance", -5)]
    assert [row.label for row in amounts_due.compute(invoice, Grouping.DAY, now=now)[:2]] in (
        ["2026-10-16", "2026-10-17"],
        ["2026-10-17", "2026-10-16"],
    )


def test_every_call_bears_what_the_pure_rule_says(used, now):
    invoice = billed(used, now, off={"llm": 3}, tax=31)
    targets, _ = amounts_due.split(invoice)
    expected: Counter[str] = Counter()
    of_month = list(charges.of_month(used.pk, OCTOBER))
    by_component = [charge.charged for charge in all_charges(organization=used)]
    for component, target in targets.items():
        weights = [charged.get(component, 0) for charged in by_component]
        for call, part in zip(of_month, shares.spread(target, weights), strict=True):
            expected[call.call_id] += part
    found = {call_id: due for _, call_id, _, _, due in amounts_due.by_call(invoice)}
    assert found == {call_id: due for call_id, due in expected.items() if call_id in found}
    assert sum(found.values()) == invoice.amount_due_minor * 10_000


def test_metadata_groups_add_up_with_those_that_have_no_value(used, now):
    metadata_usage.track(organization=used, key="team", starts_on=OCTOBER, now=now)
    invoice = billed(used, now, tax=9)
    assert amounts_due.keys_of(invoice) == ["team"]
    rows = amounts_due.compute(invoice, Grouping.METADATA, key="team", now=now)
    assert [(row.label, row.calls) for row in rows] == [("", 30)]
    assert rows[0].due_minor == invoice.amount_due_minor


def test_full_cover_leaves_nothing_due_for_any_call(used, now):
    gross = totals.month(used.pk, OCTOBER).gross
    invoice = billed(used, now, off={name: minor_units.from_micros(micros, "USD") for name, micros in gross.items()})
    rows = amounts_due.compute(invoice, Grouping.AGENT, now=now)
    assert invoice.amount_due_minor == sum(row.due_minor for row in rows) == 0
    assert all(due == 0 for *_, due in amounts_due.by_call(invoice))


def test_what_no_call_bears_is_a_row_of_its_own(used, now):
    invoice = billed(used, now, off={"resolution": -198}, other=50, tax=20)
    rows = amounts_due.compute(invoice, Grouping.MODEL, now=now)
    others = {row.kind: row.label for row in rows if not row.calls}
    assert others == {"outcome": "Resolutions", "other": "Other lines"}
    assert sum(row.due_minor for row in rows) == invoice.amount_due_minor


@pytest.mark.parametrize("state", ["draft", "void"])
def test_a_draft_and_a_void_invoice_are_due_for_nothing(used, now, state):
    invoice = billed(used, now, state=state)
    with pytest.raises(amounts_due.NotFinal):
        amounts_due.compute(invoice, Grouping.AGENT, now=now)


def test_what_was_computed_is_kept_and_stands(used, now, monkeypatch):
    invoice = billed(used, now, tax=5)
    rows = amounts_due.compute(invoice, Grouping.AGENT, now=now)
    monkeypatch.setattr(shares, "by", None)
    assert amounts_due.compute(invoice, Grouping.AGENT, now=now) == amounts_due.known(invoice, Grouping.AGENT) == rows
    assert AmountDue.objects.count() == 1


def test_parts_that_do_not_add_up_are_never_shown(used, now, monkeypatch):
    invoice = billed(used, now)
    monkeypatch.setattr(shares, "by", lambda *_, **__: [])
    with pytest.raises(amounts_due.Unspread):
        amounts_due.compute(invoice, Grouping.AGENT, now=now)
    assert not AmountDue.objects.exists()


_ROWS = st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30)


@given(_ROWS, st.sampled_from(["USD", "JPY", "KWD"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_f42_minor_units_of_rows_add_up_in_every_currency(micros, currency):
    unit = minor_units.micros_per_unit(currency)
    micros = [*micros, -sum(micros) % unit]
    rows = amounts_due.in_minor_units([Row("", "calls", 1, 0, each, 0) for each in micros], currency)
    assert sum(row.due_minor for row in rows) * unit == sum(micros)
    assert all(abs(row.due_minor * unit - row.due_micros) < unit for row in rows)


@given(
    tax=st.integers(0, 500),
    discount=st.integers(0, 60),
    off=st.dictionaries(st.sampled_from(["voice", "llm"]), st.integers(0, 40)),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_i10_whatever_is_taken_off_or_added_the_parts_come_to_the_total(used, now, tax, discount, off):
    number = str(Invoice.objects.count())
    Invoice.objects.filter(month=OCTOBER).update(state="void")
    invoice = billed(used, now, off=off, tax=tax, discount=discount, number=number)
    targets, rest = amounts_due.split(invoice)
    assert sum(targets.values()) + sum(each.micros for each in rest) == invoice.amount_due_minor * 10_000
    found = shares.by(used.pk, OCTOBER, targets, Grouping.AGENT)
    assert sum(share.due_micros for share in found) == sum(targets.values())


# ── For programs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(organization, number="ACME-1", **query):
    _, secret = api_keys.issue(organization=organization, name="k", scopes=["billing:read"], now=world.MIDMONTH)
    client = Client(headers={"authorization": f"Bearer {secret}"})
    return client.get(f"/api/v1/invoices/{number}/amount-due", query)


def test_programs_read_parts_that_add_up_to_the_amount_due(used, now):
    invoice = billed(used, now, off={"llm": 3}, tax=17, discount=5)
    for by in ("agent", "model", "day"):
        report = ask(used, by=by).json()
        assert (report["state"], report["currency"], report["minor_digits"]) == ("ready", "USD", 2)
        assert sum(row["due_minor"] for row in report["rows"]) == report["amount_due_minor"] == invoice.amount_due_minor
    assert [row["value"] for row in report["rows"]] != []


def test_what_programs_ask_wrongly_says_what_to_do(used, now):
    billed(used, now)
    assert ask(used, by="metadata").status_code == 400
    assert "Name a key that is counted" in ask(used, by="metadata", key="tenant").content.decode()
    assert "goes with `by=metadata`" in ask(used, by="day", key="tenant").content.decode()
    assert ask(used, number="ACME-2").status_code == 404
    Invoice.objects.update(state="draft")
    assert (ask(used).status_code, ask(used).json()["type"].rpartition(":")[2]) == (409, "not-final")
