"""Reads from a real standby of the tests' own PostgreSQL, by streaming replication, whose replay can be held up."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from accounts import replica
from accounts.models import Membership, User
from billing_portal.billing import export_invoices
from billing_portal.ledger import accounts
from billing_portal.local import daemons, servers
from billing_portal.local.postgres import Postgres
from tests import local_servers
from tests.billing import world
from tests.usage.conftest import call_object
from usage.calls import Filters
from usage.exports import jobs
from usage.models import Call

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "replica"]),
    pytest.mark.xdist_group("replica"),
]

READING = {
    "overview", "usage", "calls", "new_calls", "call", "trace", "changes", "change",
    "invoices", "invoice", "invoice_line", "credits", "buckets", "bucket_planner",
    "outcomes", "conversations", "conversation",
    "api-calls", "api-usage", "api-usage-changes", "api-completeness",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def standby(django_db_setup):
    """A standby of the server that holds the tests' databases."""
    if local_servers.started is None:
        pytest.skip("DATABASE_URL names a server that is not ours to copy")
    owner = daemons.Owner.choose()
    source = local_servers.started.directory
    primary = Postgres(base=daemons.place(source, owner), owner=owner, log=source / "postgres.log")
    home = Path(tempfile.mkdtemp(prefix="portal-replica-", dir="/var/tmp"))
    home.chmod(0o755)
    server = Postgres(base=home, owner=owner, log=home / "postgres.log", follows=primary)
    try:
        server.start(durable=False)
        yield from _connected(server)
    finally:
        server.stop()
        server.let_go_of_log()
        shutil.rmtree(server.sockets, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _connected(server):
    of_primary = connections.settings["default"]
    test = {**of_primary["TEST"], "MIRROR": "default"}
    connections.settings["replica"] = {**of_primary, "HOST": str(server.sockets), "TEST": test}
    yield server
    del connections.settings["replica"]


@pytest.fixture
def at_replica(standby, transactional_db, monkeypatch):
    """The portal reads from the standby; return its connection."""
    monkeypatch.setattr(replica, "CHECK_SECONDS", 0)
    monkeypatch.setattr(replica, "ASIDE_SECONDS", 0)
    replica.forget()
    connections["replica"].ensure_connection()
    yield connections["replica"]
    if standby.pid() is None:
        standby.start(durable=False)
    say("SELECT pg_wal_replay_resume()")
    connections["replica"].close()
    replica.forget()


def say(statement):
    with connections["replica"].cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def held_up():
    """Let the replica fall behind: it gets the log, and does not replay it."""
    say("SELECT pg_wal_replay_pause()")
    while True:
        with connections["replica"].cursor() as cursor:
            cursor.execute("SELECT pg_get_wal_replay_pause_state()")
            if cursor.fetchone() == ("paused",):
                break
        time.sleep(0.01)
    try:
        yield
    finally:
        say("SELECT pg_wal_replay_resume()")


def catch_up():
    assert replica.catches_up(replica.position(), within_seconds=20)
    for _ in range(100):  # and let the watch see it
        if replica._watch.is_close():
            return
        time.sleep(0.02)
    raise AssertionError("the replica is not close")


@contextmanager
def asked():
    """Collect the statements that either server is asked meanwhile: (primary's, replica's)."""
    found = [], []

    def collector(kept):
        def collect(execute, sql, params, many, context):
            if "lsn" not in sql:
                kept.append(sql)
            return execute(sql, params, many, context)

        return collect

    with (
        connections["default"].execute_wrapper(collector(found[0])),
        connections["replica"].execute_wrapper(collector(found[1])),
    ):
        yield found


@pytest.fixture
def opened(acme, alice, other, record, now):
    """Acme with prices, books and a call."""
    world.load_prices()
    accounts.open(organization=acme, now=now)
    record(call_object("call_one"))
    return acme


@pytest.fixture
def as_alice(opened, alice, monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    return logged_in(alice)


def logged_in(user):
    client = Client()
    client.force_login(user)
    return client


def page(opened):
    return f"/o/{opened.public_id}/usage/calls/?from=2025-10-01&to=2025-10-31"


def change(client, opened):
    """Change something as a person does, by a form."""
    response = client.post(f"/o/{opened.public_id}/limits/cap/", {"cap": "", "form_token": "x"})
    assert response.status_code < 500
    return response


def views():
    """Yield every address of the portal with what answers it."""
    waiting = list(get_resolver().url_patterns)
    while waiting:
        each = waiting.pop()
        if isinstance(each, URLPattern):
            yield each
        else:
            waiting += each.url_patterns


def test_only_these_views_read_from_a_replica_and_only_when_they_read():
    found = set()
    for each in views():
        of_class = getattr(each.callback, "view_class", None) or getattr(each.callback, "cls", None)
        handlers = (
            {name: getattr(of_class, name, None) for name in ("get", "post", "put", "delete")} if of_class else {}
        )
        assert not any(getattr(handler, "reads_replica", False) for name, handler in handlers.items() if name != "get")
        if getattr(handlers.get("get") or each.callback, "reads_replica", False):
            found.add(each.name)
    assert found == READING


PAGES = [
    "/o/{0}/",
    "/o/{0}/usage/?from=2025-10-01&to=2025-10-31",
    "/o/{0}/usage/calls/?from=2025-10-01&to=2025-10-31",
    "/o/{0}/usage/calls/call_one/",
    "/o/{0}/usage/new-calls/",
    "/o/{0}/usage/changes/",
    "/o/{0}/usage/trace/?call_id=call_one",
    "/o/{0}/invoices/",
    "/o/{0}/credits/",
]
# Who may see a page is asked of the primary, also for a page that is read from the replica.
OF_THE_PAGE = re.compile(r"(?<!\.)(?<!\.\")\b(usage|ledger|billing)_")


def test_pages_are_read_from_the_replica_and_their_doors_are_kept_by_the_primary(at_replica, opened, as_alice):
    as_alice.get("/")  # so that the session is known; it leads on, so what was written by then must be seen
    catch_up()
    for path in PAGES:
        with asked() as (primary, second):
            response = as_alice.get(path.format(opened.public_id))
        assert response.status_code == 200
        assert any(OF_THE_PAGE.search(sql) for sql in second), path
        assert any("accounts_membership" in sql for sql in primary)
        assert not [sql for sql in primary if OF_THE_PAGE.search(sql)], path


def test_the_api_reads_from_the_replica(at_replica, opened, key):
    reader = key(opened)
    catch_up()
    for path in ("calls", "usage", "completeness", "calls.csv", "calls.jsonl"):
        with asked() as (_, second):
            response = reader.get(f"/api/v1/{path}")
            body = response.getvalue()
        assert response.status_code == 200
        assert second, path
        assert path == "usage" or path == "completeness" or b"call_one" in body


def test_who_changed_something_sees_it_and_others_see_what_was(at_replica, opened, as_alice, bob, record):
    catch_up()
    with held_up():
        record(call_object("call_two"))
        change(as_alice, opened)
        assert b"call_two" in as_alice.get(page(opened)).content
        assert b"call_two" not in logged_in(bob).get(page(opened)).content
    catch_up()
    with asked() as (_, second):
        assert b"call_two" in as_alice.get(page(opened)).content
    assert second


def test_a_short_delay_is_waited_for(at_replica, opened, as_alice, record, settings):
    settings.REPLICA_PATIENCE_MILLISECONDS = 20_000
    catch_up()
    with held_up():
        record(call_object("call_two"))
        change(as_alice, opened)
        later = threading.Timer(0.3, _resume_elsewhere)
        later.start()
        with asked() as (_, second):
            assert b"call_two" in as_alice.get(page(opened)).content
        later.join()
    assert second


def _resume_elsewhere():
    try:
        say("SELECT pg_wal_replay_resume()")
    finally:
        connections["replica"].close()


def test_a_cookie_that_is_none_of_ours_leads_to_the_primary(at_replica, opened, as_alice):
    catch_up()
    for place in ("9" * 19, "x", "-1", "1e3", "9" * 40):
        as_alice.cookies[replica.COOKIE] = place
        with asked() as (_, second):
            assert as_alice.get(page(opened)).status_code == 200
        assert not second


def test_a_replica_too_far_behind_is_not_used(at_replica, opened, as_alice, bob, record, settings):
    settings.REPLICA_MOST_LAG_SECONDS = 1
    catch_up()
    with held_up():
        record(call_object("call_two"))
        replica._watch.is_close()
        time.sleep(1.1)
        assert b"call_two" in logged_in(bob).get(page(opened)).content


def test_a_replica_that_is_gone_is_not_missed_and_used_again_when_it_is_back(at_replica, standby, opened, as_alice):
    catch_up()
    standby.stop()
    assert b"call_one" in as_alice.get(page(opened)).content
    standby.start(durable=False)
    catch_up()
    with asked() as (_, second):
        as_alice.get(page(opened))
    assert second


def view_of(work):
    @replica.reads
    def view(request):
        work()
        return HttpResponse("done")

    return view(RequestFactory().get("/"))


def test_a_connection_that_is_cut_in_the_middle_is_read_again_on_the_primary(at_replica, opened):
    catch_up()
    asked_of = []

    def work():
        asked_of.append(connection.alias)
        with connection.cursor() as cursor:
            if connection.alias == "replica":
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert view_of(work).content == b"done"
    assert asked_of == ["replica", "default"]
    assert connection.alias == "default"


@pytest.mark.parametrize("lock", [False, True])
def test_what_writes_or_locks_is_refused_by_the_replica_and_done_once_on_the_primary(lock, at_replica, opened, alice):
    catch_up()

    def work():
        with transaction.atomic():
            found = User.objects.select_for_update() if lock else User.objects
            user = found.get(pk=alice.pk)
            user.name += "!"
            user.save()

    assert view_of(work).content == b"done"
    alice.refresh_from_db()
    assert alice.name == "Alice Ames!"


def test_what_takes_too_long_is_not_begun_again(at_replica, opened):
    catch_up()
    begun = []

    def work():
        begun.append(connection.alias)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(5)")

    with pytest.raises(OperationalError):
        view_of(work)
    assert begun == ["replica"]


def test_who_lost_a_right_has_lost_it_at_once(at_replica, opened, bob, key):
    catch_up()
    client, reader = logged_in(bob), key(opened)
    catch_up()
    assert client.get(page(opened)).status_code == 200
    assert reader.get("/api/v1/calls").status_code == 200
    with held_up():
        Membership.objects.filter(user=bob).delete()
        type(reader.key).objects.update(revoked_at=timezone.now())
        assert client.get(page(opened)).status_code == 404
        assert reader.get("/api/v1/calls").status_code == 401


def test_an_export_holds_all_that_was_committed_before_it_was_begun(
    at_replica,
    opened,
    alice,
    now,
    record,
    settings,
    tmp_path,
):
    settings.EXPORTS_DIR, settings.REPLICA_MOST_LAG_SECONDS = tmp_path, 20
    catch_up()
    with held_up():
        record(call_object("call_two"))
        export = jobs.ask(organization=opened, by=alice, name="csv", filters=Filters(), calls=2, now=now)
        later = threading.Timer(0.3, _resume_elsewhere)
        later.start()
        with asked() as (_, second):
            jobs.write(export.pk, selection_of=export_invoices.selection, tell=lambda ready: None, clock=lambda: now)
        later.join()
    export.refresh_from_db()
    assert (export.state, export.rows_done) == ("ready", 2)
    assert any("usage_call" in sql for sql in second)


def test_an_export_does_not_wait_for_ever(at_replica, opened, alice, now, record, settings, tmp_path):
    settings.EXPORTS_DIR, settings.REPLICA_MOST_LAG_SECONDS = tmp_path, 1
    catch_up()
    with held_up():
        record(call_object("call_two"))
        export = jobs.ask(organization=opened, by=alice, name="csv", filters=Filters(), calls=2, now=now)
        jobs.write(export.pk, selection_of=export_invoices.selection, tell=lambda ready: None, clock=lambda: now)
    export.refresh_from_db()
    assert (export.state, export.rows_done) == ("ready", 2)


def test_a_stream_that_is_abandoned_leaves_both_connections_as_they_were(at_replica, opened):
    catch_up()
    chunks = replica.streamed(RequestFactory().get("/"), lambda: _rows(opened))
    assert next(chunks) == b"replica"
    assert connection.alias == "default"
    assert at_replica.in_atomic_block
    chunks.close()
    assert not at_replica.in_atomic_block
    assert not connections["default"].in_atomic_block


def _rows(opened):
    with transaction.atomic():
        while Call.objects.filter(organization=opened).exists():
            yield connection.alias.encode()


def test_our_own_transaction_is_never_left_for_the_replica(at_replica, opened):
    catch_up()
    used = []
    with transaction.atomic():
        view_of(lambda: used.append(connection.alias))
    assert used == ["default"]


def test_a_process_finds_its_replica_by_the_setting(at_replica, standby, opened):
    name = connections["default"].settings_dict["NAME"]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
        "DATABASE_URL": os.environ["DATABASE_URL"].replace("/portal?", f"/{name}?"),
        "REPLICA_URL": standby.url(name),
    }
    program = "import django; django.setup(); from accounts import replica; print(replica.catches_up_now())"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=servers.CHECKOUT, env=environment, capture_output=True, check=True
    )
    assert found.stdout.strip() == b"True"
