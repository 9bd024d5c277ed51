"""How a migration changes the tables of calls while they are written and read (usage/README.md, "Migrations").

Each pattern runs beside a writer that records calls all the time, and beside a reader whose transaction stays open for
longer than a migration may wait. No call may wait for long, and none be lost.
"""

import threading
import time
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import OperationalError, close_old_connections, connection, transaction
from psycopg.errors import LockNotAvailable

from billing_portal.local.bench import load, rows
from usage import ingestion
from usage.models import Call

pytestmark = pytest.mark.django_db(transaction=True)

LOCK_MS = 300
# A writer may wait behind a migration that waits for its lock, so long; the rest is for a busy machine.
LONGEST_SECONDS = LOCK_MS / 1000 + 2.5
READS_SECONDS = 4


class Writer(threading.Thread):
    """Record calls one by one, and note how long the slowest took."""

    def __init__(self, reference):
        super().__init__()
        self.items = load.calls(100_000, [reference], seed=7)
        self.is_over, self.recorded, self.slowest, self.failure = threading.Event(), 0, 0.0, None

    def run(self):
        try:
            for item in self.items:
                if self.is_over.is_set():
                    break
                started = time.perf_counter()
                (answer,) = ingestion.record([item], now=load.ENDS_AT)
                self.slowest = max(self.slowest, time.perf_counter() - started)
                assert answer.status == "recorded", answer
                self.recorded += 1
        except Exception as error:
            self.failure = error
        finally:
            connection.close()


@contextmanager
def under_load():
    """Fill the tables, and write and read them while the body runs; then say what must hold of both."""
    (organization,) = load.organizations(1)
    rows.hold([organization], 20_000)
    ingestion.record(list(load.calls(2, [organization.reference], seed=5)), now=load.ENDS_AT)
    before = Call.objects.filter(organization=organization).count()
    writer = Writer(organization.reference)
    writer.start()
    try:
        yield
        recorded = writer.recorded
        while writer.is_alive() and writer.recorded == recorded:
            time.sleep(0.01)
    finally:
        writer.is_over.set()
        writer.join()
    assert writer.failure is None
    assert Call.objects.filter(organization=organization).count() == before + writer.recorded
    assert writer.slowest < LONGEST_SECONDS


@contextmanager
def reading(seconds=READS_SECONDS):
    """Keep a transaction open that has read the calls, as an export does."""
    begun = threading.Event()

    def read():
        with transaction.atomic():
            Call.objects.first()
            begun.set()
            time.sleep(seconds)
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    yield
    reader.join()


def run(*statements):
    """Run statements as `manage.py migrate` does: each again as long as it gives up for its lock."""
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {LOCK_MS}")
        try:
            for statement in statements:
                while not took(cursor, statement):
                    time.sleep(0.5)
        finally:
            cursor.execute("RESET lock_timeout")


def took(cursor, statement):
    """Run a statement, and say whether it got its lock."""
    try:
        cursor.execute(statement)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        return False
    return True


def test_a_column_is_added_beside_writers_and_an_open_export():
    try:
        with under_load(), reading():
            run("ALTER TABLE usage_call ADD COLUMN grade smallint DEFAULT 0 NOT NULL")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM usage_call WHERE grade = 0")
            assert cursor.fetchone()[0] == Call.objects.count()
    finally:
        run("ALTER TABLE usage_call DROP COLUMN IF EXISTS grade")


def test_a_constraint_is_added_unchecked_and_checked_afterwards():
    try:
        with under_load(), reading():
            run(
                "ALTER TABLE usage_call ADD CONSTRAINT tokens_are_not_negative CHECK (llm_tokens >= 0) NOT VALID",
                "ALTER TABLE usage_call VALIDATE CONSTRAINT tokens_are_not_negative",
            )
        with connection.cursor() as cursor:
            cursor.execute("SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'tokens_are_not_negative'")
            assert cursor.fetchone()[0]
    finally:
        run("ALTER TABLE usage_call DROP CONSTRAINT IF EXISTS tokens_are_not_negative")


def test_an_index_is_built_month_by_month_and_attached():
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_call'::regclass")
        months = [name for (name,) in cursor.fetchall()]
    months = sorted({*months, f"usage_call_{load.MONTH:%Y%m}"})
    try:
        with under_load():
            run("CREATE INDEX call_by_agent ON ONLY usage_call (organization_id, agent_id)")
            for month in months:
                with connection.cursor() as cursor:  # it waits for transactions, and nobody for it
                    cursor.execute(f"CREATE INDEX CONCURRENTLY by_agent_{month} ON {month} (organization_id, agent_id)")
                run(f"ALTER INDEX call_by_agent ATTACH PARTITION by_agent_{month}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'call_by_agent'::regclass")
            assert cursor.fetchone()[0]
    finally:
        run("DROP INDEX IF EXISTS call_by_agent")


def test_migrate_gives_up_for_a_lock_and_tries_again(monkeypatch, capsys):
    monkeypatch.setattr("accounts.management.commands.migrate._PAUSE_SECONDS", 0.2)
    tries = []

    def lock(self, *args, **options):
        tries.append(time.perf_counter())
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE usage_call")

    monkeypatch.setattr(migrate.Command, "handle", lock)
    with reading(seconds=1):
        call_command("migrate", lock_timeout=100)
    assert len(tries) > 1
    assert "tries left" in capsys.readouterr().out
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_migrate_ends_with_the_error_when_the_lock_never_comes(monkeypatch):
    monkeypatch.setattr("accounts.management.commands.migrate._PAUSE_SECONDS", 0.01)

    def lock(self, *args, **options):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE usage_call")

    monkeypatch.setattr(migrate.Command, "handle", lock)
    with reading(seconds=1), pytest.raises(OperationalError, match="lock timeout"):
        call_command("migrate", lock_timeout=50, lock_tries=2)
