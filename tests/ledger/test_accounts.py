from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def test_books_are_opened_once_in_the_organization_s_currency(make_organization, now):
    tokyo, zurich = make_organization("tokyo", currency="JPY"), make_organization("zurich", currency="CHF")
    opened = accounts.open(organization=tokyo, now=now)
    assert (opened.currency, opened.arrears_limit_micros, opened.opened_at) == ("JPY", 15_000_000_000, now)
    assert accounts.open(organization=tokyo, now=now + timedelta(days=1)) == opened
    assert Account.objects.get(organization=tokyo).opened_at == now
    # Of a currency that has no limit nothing is lent.
    assert accounts.open(organization=zurich, now=now).arrears_limit_micros == 0


def test_the_lock_is_on_the_account_alone_and_brings_the_organization(books, acme):
    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        transaction.atomic(),
    ):
        assert accounts.lock(acme.pk).organization == acme
    [statement] = [query["sql"] for query in queries if "SELECT" in query["sql"]]
    assert statement.endswith('FOR UPDATE OF "ledger_account"')


def test_the_locks_of_many_are_taken_in_order_without_who_is_frozen_or_has_no_books(books, make_organization, now):
    made = [make_organization(name) for name in ("b", "c", "d", "e")]
    for organization in made[:3]:
        accounts.open(organization=organization, now=now)
    accounts.freeze(made[1].pk, reason="x", now=now)
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        locked = accounts.lock_many(organization.pk for organization in reversed(made))
        assert [account.organization for account in locked] == [made[0], made[2]]
    [statement] = [query["sql"] for query in queries if "SELECT" in query["sql"]]
    assert statement.endswith('ORDER BY "ledger_account"."organization_id" ASC FOR UPDATE OF "ledger_account"')


def test_who_has_no_books_is_named(acme):
    with pytest.raises(accounts.AccountMissing, match=f"^Organization {acme.pk} has no ledger account.$") as missing:
        accounts.lock(acme.pk)
    assert missing.value.organization_id == acme.pk


def test_the_first_reason_of_a_freeze_stands_and_unfreezing_takes_it_away(books, acme, other, now):
    accounts.open(organization=other, now=now)
    assert accounts.freeze(acme.pk, reason="r" * 400, now=now).frozen_at == now
    accounts.freeze(acme.pk, reason="another", now=now + timedelta(days=1))
    books.refresh_from_db()
    assert (books.frozen_at, books.frozen_reason) == (now, "r" * 300)
    with pytest.raises(accounts.AccountFrozen):
        accounts.limit_arrears(acme.pk, micros=7)
    with pytest.raises(
        accounts.AccountFrozen, match=f"^The account of organization {acme.pk} is frozen: r+$"
    ) as frozen:
        accounts.lock(acme.pk)
    assert (frozen.value.organization_id, frozen.value.reason) == (acme.pk, "r" * 300)
    assert accounts.lock(other.pk).frozen_at is None
    for _ in range(2):
        assert accounts.unfreeze(acme.pk).frozen_at is None
        books.refresh_from_db()
        assert (books.frozen_at, books.frozen_reason) == (None, "")


def test_who_is_not_frozen_is_found_in_order(books, make_organization, now):
    made = [make_organization(name) for name in ("b", "c", "d", "e")]
    for organization in made[:3]:
        accounts.open(organization=organization, now=now)
    accounts.freeze(made[1].pk, reason="x", now=now)
    wanted = [organization.pk for organization in reversed(made)]
    assert accounts.not_frozen(wanted) == [made[0].pk, made[2].pk]


def test_the_limit_on_what_is_owed_is_kept(books, acme, other, now):
    accounts.open(organization=other, now=now)
    accounts.limit_arrears(acme.pk, micros=7)
    assert dict(Account.objects.values_list("organization_id", "arrears_limit_micros")) == {
        acme.pk: 7,
        other.pk: 100_000_000,
    }
