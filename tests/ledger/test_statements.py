import pytest

from billing_portal.ledger import credits, settlement, statements
from billing_portal.ledger.models import Account, Grant

pytestmark = pytest.mark.django_db


def test_the_statement_runs_down_to_nothing_and_says_why(with_calls, now):
    acme = with_calls("acme", 10)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=100_000, reference="w", now=now)
    settlement.settle_all(acme.pk, now=now)
    lines = list(statements.credit_lines(Account.objects.get(organization=acme)))
    assert [(line.label, line.micros, line.balance_micros) for line in lines] == [
        ("Usage paid from credit", -100_000, 0),
        ("Welcome credit granted", 100_000, 100_000),
    ]


def test_only_the_newest_movements_are_listed_with_the_balance_of_all(with_calls, now):
    acme = with_calls("acme", 0)
    for number in range(5):
        credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=10, reference=f"g{number}", now=now)
    lines = list(statements.credit_lines(Account.objects.get(organization=acme), limit=2))
    assert [line.balance_micros for line in lines] == [50, 40]
