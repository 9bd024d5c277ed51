"""The proof names every law that is broken, whichever row was falsified."""

from datetime import date, timedelta
from unittest.mock import ANY

import msgspec
import pytest
from django.db import connection

from billing_portal.ledger import (
    accounts,
    credits,
    discounts,
    periods,
    reversals,
    settlement,
    totals,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Account, Grant
from tests.billing import world
from tests.ledger import falsifying, test_verification_of_outcomes
from usage import ingestion
from usage.models import Call

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(with_calls, now):
    """Books with one of everything."""
    return settle_everything(with_calls("acme", 12), now)


@pytest.fixture
def beside_others(with_calls, make_organization, now):
    """Such books between those of two others, so that who takes another's rows for Acme's finds too many."""
    abroad = make_organization("abroad", currency="EUR")
    accounts.open(organization=abroad, now=now)
    credits.grant(organization=abroad, kind=Grant.Kind.GOODWILL, micros=5, reference="g", now=now)
    settle_everything(with_calls("one", 9), now)
    acme = settle_everything(with_calls("acme", 12), now)
    another = settle_everything(with_calls("another", 9), now)
    periods.close(another.pk, date(2027, 1, 1), now=now + timedelta(days=120))
    return acme


def settle_everything(organization, now):
    soon = now + timedelta(days=1)
    give = {"organization": organization, "now": now}
    credits.grant(kind=Grant.Kind.WELCOME, micros=50_000_000, reference="w", expires_at=soon, **give)
    wrong = credits.grant(kind=Grant.Kind.GOODWILL, micros=300_000, reference="g", expires_at=soon, **give)
    settlement.settle(organization.pk, now=now, limit=6)
    reversals.reverse_grant(grant_id=wrong.pk, reason="Wrong", reference="r", **give)
    credits.expire(organization.pk, now=soon)
    settlement.settle_all(organization.pk, now=soon)
    _cancel(organization, now=soon)
    settlement.settle_all(organization.pk, now=soon)
    # Later ones of the same minutes.
    world.record_calls(organization, 2, starts_at=now, now=soon, seed=2)
    settlement.settle_all(organization.pk, now=soon)
    month = now.date().replace(day=1)
    forgiven = [
        write_offs.forgive(month=month, micros=micros, reason="Outage", reference=f"f{micros}", **give)
        for micros in (2_000, 3_000, 400)
    ]
    reversals.reverse(transaction_id=forgiven[2].pk, reason="Not so", reference="u", **give)
    account, terms = Account.objects.get(organization=organization), [["ten", 1_000, None]]
    component = next(iter(totals.month(organization.pk, month).accrued))
    for micros in (10, 7):
        discounts.take_off(account, month, {("ten", component): micros}, terms=terms, reason="Partner", now=now)
    periods.close(organization.pk, date(2026, 11, 1), now=now + timedelta(days=60))
    for days in (60, 90):
        periods.of_instant(account, now + timedelta(days=days))
    credits.grant(kind=Grant.Kind.PREPAID, micros=700, reference="p", **give)
    assert list(verification.verify(organization.pk)) == []
    return organization


def _cancel(organization, *, now):
    last = Call.objects.filter(organization_id=organization.pk, amount_micros__gt=0).order_by("-started_at")[:2]
    call_ids = [each.call_id for each in last]
    call = {
        "organization": organization.reference,
        "call_type": "phone_call",
        "call_status": "cancelled",
        "correction": True,
    }
    call |= {"start_timestamp": now.isoformat(), "revision": 1, "correction": True}
    answers = ingestion.record([msgspec.json.encode({**call, "call_id": call_id}) for call_id in call_ids], now=now)
    assert {answer.status for answer in answers} == {"recorded"}


MONTH_BEFORE = """INSERT INTO ledger_period (organization_id, month, time_zone, starts_at, ends_at, closed_at)
    SELECT organization_id, month, 'UTC', month, month + 1, CASE month WHEN '2026-09-01' THEN NULL ELSE now() END
    FROM ledger_account, (VALUES ('2026-08-01'::date), ('2026-09-01')) earlier (month)"""
STRANGER = "(SELECT organization_id FROM ledger_account WHERE currency = 'EUR')"
MOVED = f"""UPDATE ledger_settlement SET organization_id = {STRANGER},
    first_sequence = 1000 + id, last_sequence = 1000 + id"""
ONE_GIVEN_BACK = "UPDATE usage_callrevision SET given_back_micros = 1 WHERE given_back_micros > 0"
ONLY_SET_OFF = """UPDATE ledger_setoff SET micros = 1; DELETE FROM ledger_settlementline;
    DELETE FROM ledger_writeoffline; DELETE FROM ledger_discountline"""
COMPONENTS = ["add_on", "llm", "per_call", "platform", "token_surcharge", "voice"]
FEW = {"add_on", "token_surcharge"}  # no call of the last settlement had them

# By law: what breaks it, and what is then said of it: of what, without its numbers, and by how much it is wrong, which
# is ANY where it hangs on what calls cost.
FALSIFICATIONS = {
    "I1 transactions sum to zero": [
        ("UPDATE ledger_entry SET micros = micros + 1 WHERE book = 'usage'", [("transaction #", 1)] * 3),
        (
            "UPDATE ledger_entry SET micros = micros - 1, currency = 'EUR' WHERE book = 'written_off'",
            [
                ("transaction #", -3_001),
                ("transaction #", -2_001),
                ("transaction #", -401),
                ("transaction #", -400),
                ("transaction #", 399),
                ("transaction #", 400),
                ("transaction #", 2_000),
                ("transaction #", 3_000),
            ],
        ),
    ],
    "I1 everything is in the account's currency": [
        ("UPDATE ledger_entry SET currency = 'EUR' WHERE book = 'breakage'", [("rows in EUR", 1)]),
        ("UPDATE ledger_grant SET currency = 'EUR' WHERE kind = 'welcome'", [("rows in EUR", 1)]),
    ],
    "I1 issued = consumed + expired + reversed + remaining": [
        ("DELETE FROM ledger_entry WHERE book = 'reversed'", [("all credit in USD", -300_000)]),
        ("DELETE FROM ledger_entry WHERE book IN ('issued', 'breakage', 'reversed')", [("all credit in USD", ANY)]),
        ("UPDATE ledger_burn SET micros = micros + 1", [("all credit in USD", 6)]),
        ("UPDATE ledger_setoff SET micros = micros + 1", [("all credit in USD", 11)]),
        (
            "UPDATE ledger_grant SET remaining_micros = remaining_micros - 1 WHERE kind = 'prepaid'",
            [("all credit in USD", -1)],
        ),
    ],
    "I1 a reversal is the opposite of what it reverses": [
        (
            "UPDATE ledger_transaction SET reverses_id = id - 1 WHERE kind = 'reverse'",
            [
                ("transaction #, credit", ANY),
                ("transaction #, credit", -300_000),
                ("transaction #, reversed", 300_000),
                ("transaction #, usage", ANY),
            ],
        ),
        ("UPDATE ledger_entry SET micros = micros + 1 WHERE book = 'written_off'", [("transaction #, written_off", 2)]),
    ],
    "I2 a grant's amount is what was issued": [
        ("UPDATE ledger_grant SET amount_micros = amount_micros + 1", [("grant #", -1)] * 5),
        (
            "DELETE FROM ledger_entry WHERE book = 'credit'",
            [("grant #", -50_000_000)] + [("grant #", ANY)] * 2 + [("grant #", -300_000)] + [("grant #", -700)],
        ),
    ],
    "I2 a grant's remainder is the sum of its entries": [
        ("UPDATE ledger_grant SET remaining_micros = 1", [("grant #", -699)] + [("grant #", 1)] * 4),
        ("DELETE FROM ledger_entry WHERE book = 'credit'", [("grant #", 700)]),
    ],
    "I2 a grant's burns are what its entries took for usage": [
        ("UPDATE ledger_burn SET micros = micros + 1", [("grant #", 6)]),
        ("DELETE FROM ledger_burn", [("grant #", ANY)]),
        ("DELETE FROM ledger_entry WHERE book = 'credit'", [("grant #", ANY)]),
    ],
    "I2 a grant's set-offs are what its entries took for them": [
        ("UPDATE ledger_setoff SET micros = micros + 1", [("grant #", 5), ("grant #", 6)]),
        ("DELETE FROM ledger_setoff", [("grant #", ANY)] * 2),
        ("DELETE FROM ledger_entry WHERE book = 'credit'", [("grant #", ANY)] * 2),
    ],
    "I2 usage in the journal is what was settled": [
        ("UPDATE ledger_settlement SET accrued_micros = accrued_micros - 1 WHERE accrued_micros > 0", [("accrued", 2)]),
        ("UPDATE ledger_settlement SET gross_micros = gross_micros + 1", [("gross", -4)]),
        ("DELETE FROM ledger_settlement", [("accrued", ANY), ("gross", ANY)]),
    ],
    "I2 what is accrued is the sum of the receivable entries": [
        ("UPDATE ledger_account SET accrued_micros = accrued_micros + 1", [("account", 1)]),
        ("DELETE FROM ledger_entry WHERE book = 'receivable'", [("account", ANY)]),
    ],
    "I2 a month's spend is the sum of its settlements": [
        ("UPDATE ledger_monthspend SET gross_micros = gross_micros + 1", [("spend of #-#-#", 1)]),
        ("DELETE FROM ledger_monthspend", [("spend of #-#-#", ANY)]),
        ("UPDATE ledger_monthspend SET month = '2020-01-01'", [("spend of #-#-#", ANY)] * 2),
    ],
    "I2 a month's spend is lowered by what was taken back of it": [
        ("UPDATE ledger_monthspend SET given_back_micros = given_back_micros + 1", [("taken back of #-#-#", 1)]),
        ("UPDATE ledger_monthspend SET month = '2020-01-01'", [("taken back of #-#-#", ANY)] * 2),
        (
            "UPDATE ledger_giveback SET in_month_micros = in_month_micros + 900000000",
            [("taken back by grant #", 900_000_000)] * 2 + [("taken back of #-#-#", -1_800_000_000)],
        ),
    ],
    "I2 what is written off is what the journal says": [
        (
            "UPDATE ledger_writeoff SET micros = micros + 1",
            [("lines of write-off #", -1)] * 3 + [("write-off #", -1)] * 3,
        ),
        (
            "DELETE FROM ledger_entry WHERE book = 'receivable'",
            [("write-off #", -3_000), ("write-off #", -2_000), ("write-off #", -400)],
        ),
        ("UPDATE ledger_writeoffline SET micros = micros + 1", [("lines of write-off #", 1)] * 3),
    ],
    "I2 what discounts took off is what the journal says": [
        ("UPDATE ledger_discountline SET micros = micros + 1", [("discounts of #-#-#, posting #", -1)] * 2),
        (
            "DELETE FROM ledger_discountline",
            [("discounts of #-#-#, posting #", -3), ("discounts of #-#-#, posting #", 10)],
        ),
        (
            "DELETE FROM ledger_entry WHERE book = 'receivable'",
            [("discounts of #-#-#, posting #", -10), ("discounts of #-#-#, posting #", 3)],
        ),
        (
            "UPDATE ledger_discountline SET micros = micros - 11",
            [("discount on add_on of #-#-#", -15)] + [("discounts of #-#-#, posting #", 11)] * 2,
        ),
    ],
    "I4 no more is forgiven, set off and discounted than was accrued": [
        ("UPDATE ledger_writeoffline SET micros = 900000000", [("platform of #-#-#", ANY)]),
        ("UPDATE ledger_setoff SET micros = 900000000", [(f"{each} of #-#-#", ANY) for each in COMPONENTS]),
        ("UPDATE ledger_discountline SET micros = 900000000", [("add_on of #-#-#", ANY)]),
        ("UPDATE ledger_settlementline SET accrued_micros = 0", [(f"{each} of #-#-#", ANY) for each in COMPONENTS]),
        ("DELETE FROM ledger_settlementline", [(f"{each} of #-#-#", ANY) for each in COMPONENTS]),
        (
            "DELETE FROM ledger_setoff; DELETE FROM ledger_settlementline",
            [("add_on of #-#-#", 7), ("platform of #-#-#", 5_000)],
        ),
        (
            "DELETE FROM ledger_setoff; UPDATE ledger_settlementline SET accrued_micros = 1",
            [("add_on of #-#-#", 5), ("platform of #-#-#", 4_997)],
        ),
        (ONLY_SET_OFF, [(f"{each} of #-#-#", 1 if each == "per_call" else 2) for each in COMPONENTS]),
    ],
    "I4 settlements follow one another without a gap": [
        (
            "UPDATE ledger_settlement SET first_sequence = first_sequence + 1 WHERE first_sequence > 1",
            [("settlement from #", 1)] * 3,
        ),
        (
            "UPDATE ledger_settlement SET first_sequence = first_sequence + 1 WHERE first_sequence = 1",
            [("settlement from #", 1)],
        ),
    ],
    "I4 the account's last sequence is the last settlement's": [
        ("UPDATE ledger_account SET last_sequence = 3", [("account", -13)]),
        ("DELETE FROM ledger_settlement", [("account", 16)]),
    ],
    "I4 a settlement's charges are all there": [
        (
            "DELETE FROM usage_call",
            [("charges of settlement from #", -6)] * 2 + [("charges of settlement from #", -2)] * 2,
        ),
        (
            "DELETE FROM usage_callrange",
            [("charges of settlement from #", -6)] * 2 + [("charges of settlement from #", -2)] * 2,
        ),
    ],
    "I4 a settlement's gross is the sum of its charges": [
        (
            "UPDATE usage_call SET amount_micros = amount_micros + 1 WHERE amount_micros > 0",
            [("settlement from #", -6)] * 2 + [("settlement from #", -2)],
        ),
        ("DELETE FROM usage_call", [("settlement from #", ANY)] * 3),
        ("DELETE FROM usage_callrange", [("settlement from #", ANY)] * 3),
    ],
    "I4 a settlement gives back once what its revisions cost less": [
        ("DELETE FROM ledger_giveback", [("settlement from #", ANY)]),
        ("UPDATE usage_callrevision SET given_back_micros = 0", [("settlement from #", ANY)]),
        (
            "UPDATE usage_callrevision SET given_back_micros = given_back_micros - 1 WHERE given_back_micros > 0",
            [("settlement from #", 2)],
        ),
        (
            f"DELETE FROM ledger_giveback; {ONE_GIVEN_BACK}",
            [("settlement from #", -2)],
        ),
    ],
    "I4 gross = burnt + accrued, per component": [
        (
            "UPDATE ledger_settlementline SET accrued_micros = accrued_micros + 1",
            [(f"{each} of settlement #", 1) for each in COMPONENTS for _ in range(2 if each in FEW else 3)],
        ),
        ("DELETE FROM ledger_burn", [(f"{each} of settlement #", ANY) for each in COMPONENTS]),
    ],
    "I4 a settlement's gross is the sum of its components": [
        ("UPDATE ledger_settlement SET gross_micros = gross_micros + 1", [("settlement from #", -1)] * 4),
        ("DELETE FROM ledger_settlementline", [("settlement from #", ANY)] * 3),
    ],
    "I5 nothing expired was spent": [
        (
            "UPDATE ledger_burn SET micros = 1; UPDATE ledger_grant SET expires_at = created_at - interval '1 day'",
            [("grant #", 6)],
        ),
        ("UPDATE ledger_grant SET expires_at = (SELECT min(settled_at) FROM ledger_settlement)", [("grant #", ANY)]),
    ],
    "I16 no row is another organization's": [
        (f"UPDATE ledger_transaction SET organization_id = {STRANGER}, reference = id", [("entries", 35)]),
        (MOVED, [("burns", 6)]),
        (f"UPDATE ledger_grant SET organization_id = {STRANGER}, reference = id", [("burns", 6), ("entries", 10)]),
    ],
    "I17 months close in their order": [(MONTH_BEFORE, [("month #-#-#", 1)])],
}


@pytest.mark.parametrize("numbers", ["I1 I5 I16 I17", "I2", "I4"])
def test_i02_a_falsified_row_is_named(numbers, beside_others):
    laws = [law for law in FALSIFICATIONS if law.split()[0] in numbers.split()]
    falsifying.assert_named(beside_others, {law: FALSIFICATIONS[law] for law in laws})


def test_every_law_has_its_falsification():
    assert set(verification._LAWS) == {*FALSIFICATIONS, *test_verification_of_outcomes.FALSIFICATIONS}


ONE_CALL = "(SELECT max(call_id) FROM usage_call WHERE amount_micros > 0)"


@pytest.mark.parametrize(("month", "is_read"), [("2026-10-01", True), ("2026-11-01", False)])
def test_charges_are_read_again_from_a_month_on(month, is_read, acme):
    since = date.fromisoformat(month)
    assert list(verification.verify(acme.pk, since=since)) == []
    found = falsifying.differences(acme, "DELETE FROM usage_call", since=since)
    assert bool(found) is is_read


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


def test_the_last_ids_of_a_block_of_ten_thousand_are_found_in_their_range(acme):
    of_two = "(SELECT first_id FROM usage_callrange ORDER BY first_id DESC LIMIT 1)"
    moved = f"""UPDATE usage_call SET id = id + 9998 WHERE id >= {of_two};
        UPDATE usage_callrange SET first_id = first_id + 9998, last_id = last_id + 9998 WHERE first_id = {of_two}"""
    assert falsifying.differences(acme, moved) == []
