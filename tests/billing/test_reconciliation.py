"""Reconciliation: nothing to say about a true month, and every seeded fault is named."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import clock
from accounts.models import Organization
from billing_portal.billing import gateway, month_end, reconciliation
from billing_portal.billing.call_audit import Difference
from billing_portal.billing.models import Customer, Invoice, InvoiceLine, Meter
from billing_portal.ledger import settlement
from tests.billing.world import ANCHOR, CLOSING, invoice_of, record_calls
from tests.charged import all_charges
from tests.stripe.conftest import RunningSandbox
from usage.charges import Charge

Used = Callable[..., Organization]


@pytest.fixture
def paid(used: Used) -> Invoice:
    """Return the paid invoice of a month with twenty calls and half a dollar of credit."""
    invoice = invoice_of(used("acme", calls=20, credit_micros=500_000))
    assert month_end.advance(invoice, now=CLOSING)
    return Invoice.objects.get(pk=invoice.pk)


def tamper(statement: str, *values: object) -> None:
    """Change rows as only a broken disk or a superuser can: past all triggers."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, values)
        assert cursor.rowcount > 0
        cursor.execute("SET session_replication_role = DEFAULT")


def differences(invoice: Invoice, *, deep: bool = True) -> list[Difference]:
    return reconciliation.reconcile_invoice(Invoice.objects.get(pk=invoice.pk), deep=deep).differences


def only(invoice: Invoice, level: str) -> Difference:
    """Return the one difference of a level; there may be others that follow from it."""
    found = [difference for difference in differences(invoice) if difference.level == level]
    assert len(found) == 1, found
    return found[0]


def a_charge() -> Charge:
    return all_charges(amount_micros__gt=0)[7]


# A true month


def test_a_true_month_has_no_difference(paid: Invoice) -> None:
    assert differences(paid) == []
    assert differences(paid, deep=False) == []


def test_every_line_has_its_calls_and_equals_stripes(paid: Invoice) -> None:
    result = reconciliation.reconcile_invoice(paid, deep=False)
    usage = {line.component: line for line in result.lines if line.kind == InvoiceLine.Kind.USAGE}
    assert len(result.lines) == paid.lines.count()
    assert usage["llm"].calls == len(all_charges(amount_micros__gt=0))
    assert usage["add_on"].calls + usage["per_call"].calls > 0
    assert all(line.agrees for line in result.lines)
    assert result.stripe_total_minor == result.our_total_minor == paid.subtotal_minor


def test_a_draft_is_compared_as_far_as_it_is(used: Used) -> None:
    draft = invoice_of(used("acme", calls=5))
    result = reconciliation.reconcile_invoice(draft, deep=True)
    assert result.differences == []
    assert {line.stripe_quantity for line in result.lines} == {None}


# Seeded faults


def test_one_micro_on_a_charge_names_the_call(paid: Invoice) -> None:
    charge = a_charge()
    tamper(
        "UPDATE usage_call SET line_micros[2] = line_micros[2] + 1, amount_micros = amount_micros + 1 WHERE id = %s",
        charge.call.pk,
    )
    found = only(paid, "charges")
    assert charge.call.call_id in found.subject
    assert found.theirs == (found.ours or 0) + 1
    assert only(paid, "settlements").ours == (only(paid, "settlements").theirs or 0) + 1


def test_a_changed_fact_names_the_call(paid: Invoice) -> None:
    charge = a_charge()
    tamper("UPDATE usage_call SET duration_ms = duration_ms + 60000 WHERE id = %s", charge.call.pk)
    found = [difference for difference in differences(paid) if difference.level == "charges"]
    assert found
    assert all(charge.call.call_id in difference.subject for difference in found)


def test_a_missing_call_is_named_by_its_number(paid: Invoice) -> None:
    charge = a_charge()
    tamper("DELETE FROM usage_call WHERE id = %s", charge.call.pk)
    assert only(paid, "sequence").subject == f"charge {charge.sequence}"


def test_a_call_that_was_never_charged_is_named(paid: Invoice) -> None:
    charge = a_charge()
    tamper("DELETE FROM usage_callrange WHERE %s BETWEEN first_id AND last_id", charge.call.pk)
    named = {each.subject for each in differences(paid) if each.level == "calls"}
    assert f"call {charge.call.call_id}" in named


def test_one_micro_on_a_settlement_names_its_charges(paid: Invoice) -> None:
    tamper("UPDATE ledger_settlementline SET gross_micros = gross_micros + 1 WHERE component = 'llm'")
    assert "Language model" in only(paid, "settlements").subject
    assert only(paid, "line quantity").subject == "Language model"


def test_a_gap_between_settlements_is_named(paid: Invoice) -> None:
    tamper("UPDATE ledger_settlement SET first_sequence = first_sequence + 1")
    assert {difference.level for difference in differences(paid)} >= {"sequence"}


def test_one_micro_in_the_rollups_names_the_product(paid: Invoice) -> None:
    # The third of the lines of each mix is the language model's.
    tamper("UPDATE usage_dailyusage SET line_micros[3] = line_micros[3] + 1")
    assert only(paid, "rollups").subject == "Language model, gpt_4o_mini"
    assert [difference.level for difference in differences(paid, deep=False)] == ["rollups"]


def test_one_micro_on_a_report_is_named(paid: Invoice) -> None:
    tamper("UPDATE billing_report SET micros = micros + 1 WHERE component = 'voice'")
    assert only(paid, "reports").subject == "Voice engine"
    assert only(paid, "Stripe's sums").subject == "Voice engine"


def test_a_report_that_stripe_did_not_accept_is_named(paid: Invoice) -> None:
    tamper("UPDATE billing_report SET state = 'rejected' WHERE component = 'voice'")
    assert only(paid, "reports accepted").subject.endswith("_voice")


def test_an_event_that_is_not_ours_is_named(stripe: RunningSandbox, paid: Invoice) -> None:
    customer = Customer.objects.get()
    gateway.create_meter_event(
        event_name=Meter.objects.get(component="llm").event_name,
        customer=customer.stripe_customer_id,
        value=1,
        identifier="stray",
        timestamp=int(ANCHOR.timestamp()) - 7200,
    )
    found = only(paid, "Stripe's sums")
    assert (found.subject, found.theirs) == ("Language model", (found.ours or 0) + 1)


@pytest.mark.parametrize("column", ["quantity", "amount_minor"])
def test_one_unit_on_a_line_is_named(paid: Invoice, column: str) -> None:
    tamper(f"UPDATE billing_invoiceline SET {column} = {column} + 1 WHERE component = 'llm' AND kind = 'usage'")
    assert only(paid, f"line {column.removesuffix('_minor')}").subject == "Language model"


def test_a_missing_line_is_named(paid: Invoice) -> None:
    tamper("DELETE FROM billing_invoiceline WHERE component = 'llm' AND kind = 'usage'")
    assert "lacks" in only(paid, "line amount").cause
    assert only(paid, "total").subject == "sum of the lines"


def test_a_line_of_another_kind_is_named(paid: Invoice) -> None:
    tamper("UPDATE billing_invoiceline SET kind = 'other' WHERE component = 'llm' AND kind = 'usage'")
    assert len([difference for difference in differences(paid) if difference.level == "line amount"]) == 2


def test_one_micro_of_credit_is_named(paid: Invoice) -> None:
    tamper("UPDATE billing_creditline SET micros = micros + 1 WHERE component = 'llm'")
    assert only(paid, "credit").subject == "Welcome credit · Language model"


@pytest.mark.parametrize("column", ["tax_minor", "total_minor", "amount_due_minor"])
def test_i10_totals_that_do_not_add_up_are_named(paid: Invoice, column: str) -> None:
    Invoice.objects.filter(pk=paid.pk).update(**{column: getattr(paid, column) + 1})
    assert "total" in {difference.level for difference in differences(paid, deep=False)}


def test_i13_a_payment_that_the_ledger_lacks_is_named(paid: Invoice) -> None:
    tamper(
        "DELETE FROM ledger_entry WHERE transaction_id IN (SELECT id FROM ledger_transaction WHERE kind = 'collect')"
    )
    tamper("DELETE FROM ledger_transaction WHERE kind = 'collect'")
    assert only(paid, "payment").theirs == 0


def test_a_broken_month_names_a_hundred_and_counts_the_rest(used: Used) -> None:
    invoice = invoice_of(used("acme", calls=130, credit_micros=0))
    month_end.advance(invoice, now=CLOSING)
    tamper("UPDATE usage_call SET line_micros[1] = line_micros[1] + 1 WHERE cardinality(line_micros) > 0")
    found = differences(invoice)
    assert "further differences" in {difference.subject for difference in found}
    assert len(found) < 120


# The command


def reconcile(*arguments: str) -> str:
    out = StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def now_is_closing(stripe: RunningSandbox) -> None:
    clock.follow(CLOSING - datetime.now(UTC))


def test_the_command_prints_every_line_and_exits_0(paid: Invoice, now_is_closing: None) -> None:
    printed = reconcile()
    assert "No differences." in printed
    for line in paid.lines.all():
        assert f"{line.quantity:,}" in printed
    assert "Welcome credit · Language model" in printed


def test_the_command_exits_1_and_names_the_call(paid: Invoice, now_is_closing: None) -> None:
    charge = a_charge()
    tamper(
        "UPDATE usage_call SET line_micros[1] = line_micros[1] - 1, amount_micros = amount_micros - 1 WHERE id = %s",
        charge.call.pk,
    )
    out = StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("reconcile", "--organization", "acme", "--period", "2027-02", stdout=out)
    assert failed.value.returncode == 1
    assert charge.call.call_id in out.getvalue()


def test_the_command_speaks_json(paid: Invoice, now_is_closing: None) -> None:
    document = json.loads(reconcile("--json"))
    (invoice,) = document["invoices"]
    assert (invoice["organization"], invoice["period"], invoice["differences"]) == ("acme", "2027-02", [])
    assert sum(line["difference_minor"] for line in invoice["lines"]) == 0


def test_a_month_without_an_invoice_is_a_difference(used: Used, now_is_closing: None) -> None:
    used("acme", calls=3)
    assert "No differences." in reconcile()
    clock.follow(CLOSING + timedelta(hours=1) - datetime.now(UTC))
    with pytest.raises(CommandError):
        reconcile("--quick")


def test_an_unknown_organization_is_said_to_be_unknown(db: None) -> None:
    with pytest.raises(CommandError, match="no organization"):
        reconcile("--organization", "nobody")


def test_i16_organizations_do_not_mix(used: Used, paid: Invoice) -> None:
    other = used("other", calls=5)
    record_calls(other, 5, starts_at=CLOSING - timedelta(hours=1), now=CLOSING, seed=3)
    settlement.settle_all(other.pk, now=CLOSING)
    assert differences(paid) == []
    assert list(reconciliation.usage_differences(other.pk, date(2027, 3, 1), deep=True)) == []
