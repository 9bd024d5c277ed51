import os
import socket

import psycopg
import pytest

from billing_portal.local import servers
from tests import local_servers


def test_sockets_reach_the_loopback_only():
    with socket.socket() as connection, pytest.raises((RuntimeError, UserWarning), match=r"192\.0\.2\.1"):
        connection.connect(("192.0.2.1", 80))


def test_loopback_and_unix_sockets_stay_open(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_the_servers_are_known_before_the_settings():
    assert os.environ["DATABASE_URL"]
    assert os.environ["BROKER_URL"]


def test_each_worker_has_its_own_database_in_valkey_and_none_that_of_a_run_without_workers():
    url = "redis://:secret@127.0.0.1:6379/0"
    assert local_servers.broker_of_worker(url, "gw0") == "redis://:secret@127.0.0.1:6379/1"
    assert local_servers.broker_of_worker(url, "gw3") == "redis://:secret@127.0.0.1:6379/4"


def test_without_chromium_a_browser_test_is_skipped_with_that_reason(monkeypatch):
    monkeypatch.setattr(local_servers, "CHROMIUM", None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^Chromium is not installed$"):
        local_servers.demand_chromium()


def test_without_chromium_a_browser_test_fails_in_ci(monkeypatch):
    monkeypatch.setattr(local_servers, "CHROMIUM", None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Chromium is not installed, and in CI"):
        local_servers.demand_chromium()


def test_an_edited_migration_drops_the_kept_test_database(directory):
    where = servers.ensure(directory, durable=False)

    def databases() -> list[str]:
        with psycopg.connect(where.database_url) as connection:
            return [name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")]

    def keep() -> None:
        with psycopg.connect(where.database_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE test_portal")

    local_servers.drop_outdated_databases(where)
    keep()
    local_servers.drop_outdated_databases(where)
    assert "test_portal" in databases()

    (directory / "migrations.sha256").write_text("of an earlier state")
    local_servers.drop_outdated_databases(where)
    assert sorted(databases()) == ["portal", "postgres"]
