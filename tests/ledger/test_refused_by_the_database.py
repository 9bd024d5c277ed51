"""What the database itself refuses, by direct SQL past all of our code: the parts of I1 to I4 that it can hold."""

from datetime import timedelta

import pytest
from django.db import Error, connection, transaction

from billing_portal.ledger import credits, settlement, verification
from billing_portal.ledger.models import Grant

pytestmark = pytest.mark.django_db

ATTEMPTS = {
    "I1 an entry is edited": "UPDATE ledger_entry SET micros = micros + 1",
    "I1 an entry is deleted": "DELETE FROM ledger_entry",
    "I1 a transaction is edited": "UPDATE ledger_transaction SET occurred_at = now()",
    "I1 a transaction is deleted": "DELETE FROM ledger_transaction",
    "I1 an entry joins a balanced transaction": (
        "INSERT INTO ledger_entry (organization_id, transaction_id, book, currency, micros) "
        "SELECT organization_id, transaction_id, 'usage', currency, 1 FROM ledger_entry LIMIT 1"
    ),
    "I1 an entry of nothing": (
        "INSERT INTO ledger_entry (organization_id, transaction_id, book, currency, micros) "
        "SELECT organization_id, transaction_id, 'usage', currency, 0 FROM ledger_entry LIMIT 1"
    ),
    "I1 credit of no grant": (
        "INSERT INTO ledger_entry (organization_id, transaction_id, book, currency, micros) "
        "SELECT organization_id, transaction_id, 'credit', currency, 1 FROM ledger_entry LIMIT 1"
    ),
    "I1 a reference is used twice": (
        "INSERT INTO ledger_transaction (organization_id, kind, reference, reason, occurred_at) "
        "SELECT organization_id, kind, reference, reason, occurred_at FROM ledger_transaction LIMIT 1"
    ),
    "I3 a remainder below zero": "UPDATE ledger_grant SET remaining_micros = -1",
    "I3 a remainder above its amount": "UPDATE ledger_grant SET remaining_micros = amount_micros + 1",
    "I3 a grant of nothing": "UPDATE ledger_grant SET amount_micros = 0, remaining_micros = 0",
    "I3 a grant twice": (
        "INSERT INTO ledger_grant (organization_id, kind, priority, currency, amount_micros, remaining_micros, "
        "reference, reason, created_at) SELECT organization_id, kind, priority, currency, 1, 1, reference, reason, "
        "created_at FROM ledger_grant LIMIT 1"
    ),
    "I4 a settlement is edited": "UPDATE ledger_settlement SET gross_micros = gross_micros + 1",
    "I4 a settlement is deleted": "DELETE FROM ledger_settlement",
    "I4 a settlement twice": (
        "INSERT INTO ledger_settlement (organization_id, month, first_sequence, last_sequence, gross_micros, "
        "accrued_micros, settled_at) SELECT organization_id, month, first_sequence, last_sequence, gross_micros, "
        "accrued_micros, settled_at FROM ledger_settlement LIMIT 1"
    ),
    "I4 a settlement that accrues more than its gross": (
        "INSERT INTO ledger_settlement (organization_id, month, first_sequence, last_sequence, gross_micros, "
        "accrued_micros, settled_at) SELECT organization_id, month, 900, 901, 1, 2, settled_at "
        "FROM ledger_settlement LIMIT 1"
    ),
    "I4 a burn is edited": "UPDATE ledger_burn SET micros = micros + 1",
    "I4 a burn twice": (
        "INSERT INTO ledger_burn (organization_id, settlement_id, grant_id, component, micros) "
        "SELECT organization_id, settlement_id, grant_id, component, micros FROM ledger_burn LIMIT 1"
    ),
    "I4 a line of a settlement is edited": "UPDATE ledger_settlementline SET accrued_micros = 0",
    "I4 a settled range is numbered anew": "UPDATE usage_callrange SET first_sequence = first_sequence + 100",
    "I4 a settled range waits again": (
        "UPDATE usage_callrange SET first_sequence = NULL, billed_month = NULL, time_zone = ''"
    ),
    "I4 a settled range is deleted": "DELETE FROM usage_callrange",
}


@pytest.fixture
def settled(with_calls, now):
    acme = with_calls("acme", 10)
    soon = now + timedelta(days=1)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=300_000, reference="w", now=now, expires_at=soon)
    settlement.settle_all(acme.pk, now=now)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return acme


@pytest.mark.parametrize("statement", ATTEMPTS.values(), ids=ATTEMPTS)
def test_i01_i03_i04_the_database_itself_refuses(settled, statement):
    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount, "nothing was tried"
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as the commit would
    assert list(verification.verify(settled.pk)) == []
