"""The schema can be cut by organization: every key of an organization's table contains it. Read from the database.

What a distributed PostgreSQL (Citus, say) demands of a table that is cut by a column is that each of its unique and
foreign keys contains that column. Here that is also I16: the keys refuse a row that refers to another organization's.
"""

import pytest
from django.db import IntegrityError, connection, transaction

from billing_portal.ledger import accounts, credits, settlement
from billing_portal.ledger.models import Entry, Grant, Transaction
from tests.usage.conftest import call_object

pytestmark = pytest.mark.django_db

# People, organizations, roles and keys are the directory, in which a request's organization is found. It is small, a
# person is in several organizations, and every node has a copy. So it has of what is on sale, which is small as well.
DIRECTORY = {"accounts_organization", "accounts_user", "accounts_apikey", "billing_bucketoffer"}
APPS = ("usage", "ledger", "billing", "portal", "support")

# Tables that belong to no organization, or to one only when it is known.
GLOBAL = {
    "billing_bucketoffer": "the vendor's, a copy on every node",
    "billing_exchangerate": "the vendor's, a copy on every node",
    "billing_inboxevent": "Stripe's events arrive before it is known whose they are",
    "billing_intent": "some intents make meters and prices, which are the vendor's",
    "billing_meter": "the vendor's, a copy on every node",
    "billing_meterprice": "the vendor's, a copy on every node",
    "usage_backfill": "one of the vendor's is for many organizations; its parts are theirs",
    "billing_receiptkey": "the vendor's, a copy on every node",
    "usage_callkind": "what calls have in common, a copy on every node",
    "usage_heldcall": "webhooks arrive before it is known whose they are",
    "usage_importjob": "the vendor's files hold calls of many organizations",
    "usage_importrefusal": "a line of such a file may name no organization that there is",
    "usage_outcomeprice": "the vendor's, a copy on every node",
    "usage_outcomeruleversion": "the vendor's, a copy on every node",
    "usage_pricebook": "the vendor's, a copy on every node",
    "usage_pricerate": "the vendor's, a copy on every node",
    "usage_pricestamp": "the vendor's, a copy on every node",
    "usage_priceversion": "the vendor's, a copy on every node",
    "usage_recordedbatch": "a request of the vendor's holds calls of many organizations; each node keeps what it heard",
    "usage_priceproposal": "the vendor's, a copy on every node",
    "usage_ruleproposal": "the vendor's, a copy on every node",
    "usage_productmix": "what calls have in common, a copy on every node",
}
# Keys without the organization, beside the `id` of a sequence: unique by their making, so no node need ask another.
ISSUED = {
    ("billing_chargeback", "stripe_dispute_id"): "issued by Stripe",
    ("billing_creditnote", "public_id"): "122 random bits",
    ("billing_creditnote", "stripe_credit_note_id"): "issued by Stripe",
    ("billing_discount", "public_id"): "122 random bits",
    ("billing_dispute", "public_id"): "122 random bits",
    ("billing_disputemessage", "public_id"): "122 random bits",
    ("billing_fraudwarning", "stripe_warning_id"): "issued by Stripe",
    ("billing_invoicepayment", "stripe_payment_intent_id"): "issued by Stripe",
    ("billing_paymentattempt", "stripe_charge_id"): "issued by Stripe",
    ("billing_refund", "stripe_refund_id"): "issued by Stripe",
    ("billing_subscriptionitem", "stripe_subscription_item_id"): "issued by Stripe",
    ("billing_cardsetup", "stripe_setup_intent_id"): "issued by Stripe",
    ("billing_customer", "stripe_customer_id"): "issued by Stripe",
    ("billing_customer", "stripe_subscription_id"): "issued by Stripe",
    ("billing_interiminvoice", "public_id"): "122 random bits",
    ("billing_invoice", "public_id"): "122 random bits",
    ("billing_invoice", "stripe_invoice_id"): "issued by Stripe",
    ("billing_paymentmethod", "stripe_payment_method_id"): "issued by Stripe",
    ("billing_purchase", "public_id"): "122 random bits",
    ("billing_purchase", "stripe_session_id"): "issued by Stripe",
    ("billing_receiptfile", "public_id"): "122 random bits",
    ("billing_seatplan", "stripe_subscription_id"): "issued by Stripe",
    ("billing_taxid", "public_id"): "122 random bits",
    ("billing_taxid", "stripe_tax_id"): "issued by Stripe",
    ("billing_report", "identifier"): "begins with the organization's own identifier",
    ("ledger_bucket", "public_id"): "122 random bits",
    ("portal_savedview", "public_id"): "122 random bits",
    ("support_staffaction", "public_id"): "122 random bits",
    ("usage_export", "public_id"): "122 random bits",
    # One welcome credit for a card or a company, whichever organizations they have: the one key that is meant to
    # reach across. It is asked for once in an organization's life, and would stay with the directory.
    ("ledger_welcomeclaim", "key"): "across organizations on purpose",
}

TABLES = """
    SELECT class.relname, coalesce(bool_or(attname = 'organization_id' AND attnotnull), false)
    FROM pg_class AS class JOIN pg_attribute ON attrelid = class.oid AND attnum > 0
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace
    GROUP BY class.relname"""
UNIQUES = """
    SELECT class.relname, index.relname,
           array(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = indrelid AND attnum = ANY (indkey) ORDER BY attname)
    FROM pg_index JOIN pg_class AS class ON class.oid = indrelid JOIN pg_class AS index ON index.oid = indexrelid
    WHERE indisunique AND NOT class.relispartition AND class.relnamespace = current_schema()::regnamespace"""
FOREIGN_KEYS = """
    SELECT source.relname, conname::text, target.relname,
           array(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS part (number, place)
                 JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place),
           array(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS part (number, place)
                 JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place)
    FROM pg_constraint
    JOIN pg_class AS source ON source.oid = conrelid JOIN pg_class AS target ON target.oid = confrelid
    WHERE contype = 'f' AND conparentid = 0 AND connamespace = current_schema()::regnamespace"""


def rows(statement, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall()


def ours(table):
    return table.partition("_")[0] in APPS


def cut():
    """Return the tables that are cut by organization."""
    return {table for table, owned in rows(TABLES) if ours(table) and table not in GLOBAL}


def test_i16_every_table_belongs_to_an_organization_or_says_why_not():
    without = {table for table, owned in rows(TABLES) if ours(table) and not owned}
    assert without == set(GLOBAL), "give the table an organization that is not null, or say here why it has none"


def test_i16_every_foreign_key_contains_the_organization():
    known = cut()
    wrong = []
    for table, name, target, columns, targets in rows(FOREIGN_KEYS):
        within = "organization_id" in columns and dict(zip(columns, targets, strict=True))["organization_id"] in (
            "organization_id",
            "id",
        )
        if table in known and not within and target not in DIRECTORY:
            wrong.append(f"{table}: {name} → {target}")
        if table not in known and target in known:
            wrong.append(f"{table}: {name} → {target}, from a table that every node has")
    assert not wrong, "use accounts.constraints.SameOrganization beside db_constraint=False"


def test_i16_every_unique_key_contains_the_organization_or_is_unique_by_its_making():
    known = cut()
    # A reference that is held together with its organization names the organization.
    one_to_one = {(table, columns[-1]) for table, _, _, columns, _ in rows(FOREIGN_KEYS) if len(columns) == 2}
    wrong, issued = [], set()
    for table, name, columns in rows(UNIQUES):
        if table not in known or "organization_id" in columns or columns == ["id"]:
            continue
        column = (table, ",".join(columns))
        if column in ISSUED:
            issued.add(column)
        elif column not in one_to_one:
            wrong.append(f"{table}: {name} over {columns}")
    assert not wrong, "begin the key with the organization"
    assert issued == set(ISSUED), "an exception that is none any more"


def test_i16_what_is_referred_to_has_a_key_with_its_organization():
    """When a table is cut, its primary key becomes (organization, id): that index is there already."""
    known = cut()
    keyed = {table for table, _, columns in rows(UNIQUES) if columns == ["id", "organization_id"]}
    assert {target for *_, target, _, _ in rows(FOREIGN_KEYS) if target in known} <= keyed


def test_i16_the_database_refuses_a_reference_to_another_organizations_row(acme, other, now):
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)
    credits.grant(organization=other, kind="goodwill", micros=1_000_000, reference="g", reason="sorry", now=now)
    theirs = Grant.objects.get()
    mine = Transaction.objects.create(organization=acme, kind="grant", reference="mine", occurred_at=now)
    with pytest.raises(IntegrityError, match="entry_is_of_its_own_grant"), transaction.atomic():
        Entry.objects.create(organization=acme, transaction=mine, book="credit", grant=theirs, currency="USD", micros=1)
        connection.check_constraints()
    with pytest.raises(IntegrityError, match="entry_is_of_its_own_transaction"), transaction.atomic():
        Entry.objects.create(organization=other, transaction=mine, book="usage", currency="USD", micros=1)
        connection.check_constraints()


def organizations_written(*, after=0):
    """Return whose rows were written since transaction number `after`, by table; and the last number."""
    found, last = {}, after
    for table in cut():
        for organization_id, number in rows(f"SELECT organization_id, max(xmin::text::bigint) FROM {table} GROUP BY 1"):
            if number > after:
                found.setdefault(table, set()).add(organization_id)
                last = max(last, number)
    return found, last


def test_a_settlement_writes_rows_of_one_organization_alone(priced, acme, other, record, now):
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)
        credits.grant(organization=organization, kind="goodwill", micros=50_000, reference="g", reason="hello", now=now)
    record(*[call_object(f"c{number}", organization=name) for number in range(5) for name in ("acme", "other")])
    _, last = organizations_written()
    assert settlement.settle_all(acme.pk, now=now) == 5
    found, _ = organizations_written(after=last)
    assert {"ledger_settlement", "ledger_burn", "usage_callrange", "usage_dailyusage"} <= set(found)
    assert set().union(*found.values()) == {acme.pk}
