"""The proof names every law that is broken, whichever row was falsified."""

from datetime import timedelta

import msgspec
import pytest
from django.db import connection

from billing_portal.ledger import credits, discounts, periods, reversals, settlement, totals, verification, write_offs
from billing_portal.ledger.models import Account, Grant
from tests.ledger import falsifying, test_buckets
from usage import ingestion

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(with_calls, other, now):
    """Books with one of everything."""
    organization = with_calls("acme", 12)
    soon = now + timedelta(days=1)
    give = {"organization": organization, "now": now}
    credits.grant(kind=Grant.Kind.WELCOME, micros=50_000_000, reference="w", expires_at=soon, **give)
    wrong = credits.grant(kind=Grant.Kind.GOODWILL, micros=300_000, reference="g", expires_at=soon, **give)
    settlement.settle(organization.pk, now=now, limit=6)
    reversals.reverse_grant(grant_id=wrong.pk, reason="Wrong", reference="r", **give)
    credits.expire(organization.pk, now=soon)
    settlement.settle_all(organization.pk, now=soon)
    _cancel("call_1_10", "call_1_11", now=soon)
    settlement.settle_all(organization.pk, now=soon)
    month = now.date().replace(day=1)
    for number in (1, 2):
        write_offs.forgive(month=month, micros=2_000, reason="Outage", reference=f"f{number}", **give)
    account, terms = Account.objects.get(organization=organization), [["ten", 1_000, None]]
    component = next(iter(totals.month(organization.pk, month).accrued))
    for micros in (10, 7):
        discounts.take_off(account, month, {("ten", component): micros}, terms=terms, reason="Partner", now=now)
    periods.close(organization.pk, month, now=now + timedelta(days=30))
    assert list(verification.verify(organization.pk)) == []
    return organization


def _cancel(*call_ids, now):
    call = {"organization": "acme", "call_type": "phone_call", "call_status": "cancelled", "correction": True}
    call |= {"start_timestamp": now.isoformat(), "revision": 1}
    answers = ingestion.record([msgspec.json.encode({**call, "call_id": call_id}) for call_id in call_ids], now=now)
    assert {answer.status for answer in answers} == {"recorded"}


FALSIFICATIONS = {
    "UPDATE ledger_entry SET micros = micros + 1 WHERE book = 'usage'": "I1 transactions sum to zero",
    "UPDATE ledger_entry SET currency = 'EUR' WHERE book = 'breakage'": "I1 everything is in the account's currency",
    "DELETE FROM ledger_entry WHERE book = 'reversed'": "I1 issued = consumed + expired + reversed + remaining",
    "UPDATE ledger_transaction SET reverses_id = id - 1 WHERE kind = 'reverse'": (
        "I1 a reversal is the opposite of what it reverses"
    ),
    "UPDATE ledger_grant SET amount_micros = amount_micros + 1": "I2 a grant's amount is what was issued",
    "UPDATE ledger_grant SET remaining_micros = 1": "I2 a grant's remainder is the sum of its entries",
    "UPDATE ledger_burn SET micros = micros + 1": "I2 a grant's burns are what its entries took for usage",
    "UPDATE ledger_settlement SET accrued_micros = accrued_micros - 1 WHERE accrued_micros > 0": (
        "I2 usage in the journal is what was settled"
    ),
    "UPDATE ledger_account SET accrued_micros = accrued_micros + 1": (
        "I2 what is accrued is the sum of the receivable entries"
    ),
    "UPDATE ledger_monthspend SET gross_micros = gross_micros + 1": "I2 a month's spend is the sum of its settlements",
    "UPDATE ledger_monthspend SET given_back_micros = given_back_micros + 1": (
        "I2 a month's spend is lowered by what was taken back of it"
    ),
    "UPDATE ledger_discountline SET micros = micros + 1": "I2 what discounts took off is what the journal says",
    "UPDATE ledger_writeoff SET micros = micros + 1": "I2 what is written off is what the journal says",
    "UPDATE ledger_writeoffline SET micros = 900000000": (
        "I4 no more is forgiven, set off and discounted than was accrued"
    ),
    "UPDATE ledger_setoff SET micros = micros + 1": "I2 a grant's set-offs are what its entries took for them",
    "DELETE FROM ledger_giveback": "I4 a settlement gives back once what its revisions cost less",
    "UPDATE ledger_settlement SET first_sequence = first_sequence + 1 WHERE first_sequence > 1": (
        "I4 settlements follow one another without a gap"
    ),
    "UPDATE ledger_account SET last_sequence = 3": "I4 the account's last sequence is the last settlement's",
    "UPDATE ledger_settlementline SET accrued_micros = accrued_micros + 1": "I4 gross = burnt + accrued, per component",
    "UPDATE ledger_settlement SET gross_micros = gross_micros + 1": (
        "I4 a settlement's gross is the sum of its components"
    ),
    "UPDATE ledger_grant SET expires_at = created_at - interval '1 day'": "I5 nothing expired was spent",
    "UPDATE ledger_transaction SET organization_id = (SELECT min(id) FROM accounts_organization)": (
        "I16 no row is another organization's"
    ),
    "INSERT INTO ledger_period (organization_id, month, time_zone, starts_at, ends_at) "
    "SELECT organization_id, '2026-09-01', 'UTC', '2026-09-01', '2026-10-01' FROM ledger_account": (
        "I17 months close in their order"
    ),
}


# Of what it is said, and by how much it is wrong: where that does not hang on what calls cost.
SAID = {
    "I1 transactions sum to zero": [("transaction #", 1)] * 2,
    "I1 everything is in the account's currency": [("rows in EUR", 1)],
    "I1 issued = consumed + expired + reversed + remaining": [("all credit in USD", -300_000)],
    "I2 a grant's amount is what was issued": [("grant #", -1)] * 4,
    "I2 a grant's remainder is the sum of its entries": [("grant #", 1)] * 4,
    "I2 usage in the journal is what was settled": [("accrued", 1)],
    "I2 what is accrued is the sum of the receivable entries": [("account", 1)],
    "I2 a month's spend is the sum of its settlements": [("spend of #-#-#", 1)],
    "I2 a month's spend is lowered by what was taken back of it": [("taken back of #-#-#", 1)],
    "I2 what discounts took off is what the journal says": [("discounts of #-#-#, posting #", -1)] * 2,
    "I2 what is written off is what the journal says": [("lines of write-off #", -1)] * 2 + [("write-off #", -1)] * 2,
    "I4 settlements follow one another without a gap": [("settlement from #", 1)] * 2,
    "I4 the account's last sequence is the last settlement's": [("account", -11)],
    "I4 a settlement's gross is the sum of its components": [("settlement from #", -1)] * 3,
    "I17 months close in their order": [("month #-#-#", 1)],
}


def test_i02_a_falsified_row_is_named(acme):
    for statement, law in FALSIFICATIONS.items():
        found = falsifying.said(falsifying.differences(acme, statement), law)
        assert found == SAID.get(law, found) != [], law


def test_every_law_that_needs_no_falsified_call_has_its_falsification():
    of_charges = {"I4 a settlement's charges are all there", "I4 a settlement's gross is the sum of its charges"}
    of_outcomes = set(test_buckets.FALSIFICATIONS.values())
    assert set(verification._LAWS) - of_charges == {*FALSIFICATIONS.values(), *of_outcomes}


ONE_CALL = "(SELECT max(call_id) FROM usage_call WHERE amount_micros > 0)"


@pytest.mark.parametrize(
    ("falsify", "laws"),
    [
        (
            f"DELETE FROM usage_call WHERE call_id = {ONE_CALL}",
            {"I4 a settlement's charges are all there", "I4 a settlement's gross is the sum of its charges"},
        ),
        (
            f"UPDATE usage_call SET amount_micros = amount_micros + 1 WHERE call_id = {ONE_CALL}",
            {"I4 a settlement's gross is the sum of its charges"},
        ),
    ],
)
def test_i04_a_call_that_is_gone_or_costs_another_amount_breaks_its_settlement(acme, falsify, laws):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger keeps it then
        cursor.execute(falsify)
        cursor.execute("SET LOCAL session_replication_role = origin")
    assert {each.law for each in verification.verify(acme.pk)} == laws
