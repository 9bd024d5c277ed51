"""A portal on durable servers of its own, the load that it is under, and a log of every answer that it gave."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from billing_portal.local import daemons, servers
from billing_portal.local.postgres import Postgres
from billing_portal.local.processes import CHECKOUT, Processes, free_port
from tests import migrated
from tests.usage.conftest import call_object
from tests.usage.settler import ORGANIZATIONS

BATCH = 10
SENDERS = 4
TIMEOUT_SECONDS = 20


@dataclass
class World:
    """The servers and processes, each of which can be killed and started again."""

    home: Path
    server: Postgres
    processes: Processes
    port: int
    secret: str = ""

    @property
    def url(self) -> str:
        return self.server.url()

    def kill_postgres(self, by: signal.Signals) -> None:
        """End PostgreSQL without warning: SIGKILL its postmaster, or SIGQUIT, its own immediate shutdown."""
        pid = self.server.pid()
        assert pid is not None
        assert daemons.end(pid, by=by, within_seconds=30, marks=str(self.server.data))
        self.server.start(durable=True)

    def kill_backend(self) -> None:
        """Kill one of PostgreSQL's own processes: it then ends all the others, and recovers."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            (pid,) = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY query ILIKE '%usage_call%' DESC, query_start DESC LIMIT 1"
            ).fetchone()
            os.kill(pid, signal.SIGKILL)

    def kill_worker(self) -> None:
        """Kill one web process; its master starts another."""
        master = self.processes.children["web"].pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def kill(self, name: str) -> None:
        """Kill all of the web server, or the settler, and start it again."""
        self.processes.kill(name)
        self.processes.restart(name)

    @contextlib.contextmanager
    def small_disk(self, part: str, *, spare_bytes: int) -> Iterator["SmallDisk"]:
        """Move a part of PostgreSQL's data (`base`, `pg_wal`) to a disk of its own, with little room to spare."""
        self.server.stop()
        where, mount = self.server.data / part, self.home / "small"
        size = sum(path.stat().st_size for path in where.rglob("*") if path.is_file()) + spare_bytes
        mount.mkdir()
        as_root("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(mount))
        moved, before = mount / part, self.home / f"{part}.before"
        try:
            as_root("cp", "-a", str(where), str(moved))
            as_root("mv", str(where), str(before))
            as_root("ln", "-s", str(moved), str(where))
            self.server.start(durable=True)
            yield SmallDisk(mount)
        finally:
            self.server.stop()
            as_root("rm", "-rf", str(where), str(before))
            as_root("cp", "-a", str(moved), str(where))
            as_root("umount", "-l", str(mount))
            mount.rmdir()
            self.server.start(durable=True)

    def recorded(self) -> Counter[str]:
        """Return how often each call stands in the table, once PostgreSQL is back."""
        give_up_at = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(self.url) as connection:
                    return Counter(call_id for (call_id,) in connection.execute("SELECT call_id FROM usage_call"))
            except psycopg.OperationalError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.1)

    def settle_the_rest(self) -> str:
        """Settle what waits, and return what of the books and rollups does not add up."""
        return self.run("-m", "tests.usage.settler", "finish")

    def run(self, *command: str) -> str:
        """Run a program in this world to its end, and return what it printed."""
        environment = {**os.environ, **self.processes.environment}
        found = subprocess.run(
            [sys.executable, *command], env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout


@dataclass(frozen=True)
class SmallDisk:
    """A disk that can be filled up to the last byte, and freed."""

    mount: Path

    @property
    def ballast(self) -> str:
        return str(self.mount / "ballast")

    def fill(self) -> None:
        as_root("sh", "-c", f"cat /dev/zero > {self.ballast} 2>/dev/null || true")

    def free(self) -> None:
        as_root("rm", "-f", self.ballast)


def as_root(*command: str) -> None:
    """Run a command that needs root; skip the test where nothing can be mounted."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    found = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    if found.returncode and command[0] == "mount":
        pytest.skip(f"no disk of a given size can be mounted here: {found.stderr.strip()}")
    assert found.returncode == 0, found.stderr


@contextlib.contextmanager
def running() -> Iterator[World]:
    """Yield a portal on servers with fsync on, with its web and settling processes."""
    home = Path(tempfile.mkdtemp(prefix="portal-crash-", dir="/var/tmp"))
    home.chmod(0o755)
    with on_servers(home) as world:
        yield world


@contextlib.contextmanager
def on_servers(home: Path) -> Iterator[World]:
    embedded = servers.ensure(home, durable=True)
    owner = daemons.Owner.choose()
    server = Postgres(base=daemons.place(home, owner), owner=owner, log=home / "postgres.log")
    environment = {
        "LOCAL_DIR": str(home),
        "DATABASE_URL": embedded.database_url,
        "BROKER_URL": embedded.broker_url,
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
        "LOG_LEVEL": "ERROR",
        "API_KEY_REQUESTS_PER_SECOND": "100000",
    }
    world = World(home, server, Processes(logs=home / "logs", environment=environment), free_port())
    try:
        migrated.pour(embedded)
        secret = home / "secret"
        world.run("-m", "tests.usage.settler", "set-up", str(secret))
        world.secret = secret.read_text()
        world.processes.start("settler", "-m", "tests.usage.settler", "run")
        world.processes.start(
            "web", "-m", "gunicorn", "billing_portal.wsgi", "--preload", "--workers", "2", "--threads", "4",
            "--bind", f"127.0.0.1:{world.port}",
        )  # fmt: skip
        world.processes.wait_for("web", f"http://127.0.0.1:{world.port}/api/v1/schema")
        yield world
    finally:
        world.processes.stop()
        servers.remove(home)
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class Attempt:
    """One sending of a batch, and what was answered for its calls; None where no answer came."""

    batch: tuple[str, ...]
    answered: tuple[str, ...] | None


@dataclass
class Load:
    """Senders that each post one batch after the other, again and again until it is answered."""

    world: World
    name: str
    log: list[Attempt] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    waits: set[str | None] = field(default_factory=set)
    ending: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self._send_all, args=(number,)) for number in range(SENDERS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(120)

    def answered(self) -> set[str]:
        """Return the calls that were answered with 2xx so far."""
        return {call_id for attempt in list(self.log) if attempt.answered for call_id in attempt.batch}

    def await_answers(self, more: int) -> None:
        """Return when so many further batches were answered."""
        wanted = sum(1 for attempt in list(self.log) if attempt.answered) + more
        give_up_at = time.monotonic() + 90
        while sum(1 for attempt in list(self.log) if attempt.answered) < wanted:
            assert not self.failures, self.failures
            assert time.monotonic() < give_up_at, "the portal does not answer any more"
            time.sleep(0.01)

    def _send_all(self, sender: int) -> None:
        number = 0
        while not self.ending.is_set() and not self.failures:
            number += 1
            batch = tuple(f"{self.name}_{sender}_{number}_{place}" for place in range(BATCH))
            try:
                while not self._send(batch):
                    time.sleep(0.1)
                if number % 7 == 0:
                    self._send(batch)  # an answer that was lost on the way looks like this
            except Exception as failure:  # told by the test
                self.failures.append(repr(failure))

    def _send(self, batch: tuple[str, ...]) -> bool:
        answered = self._post(batch)
        self.log.append(Attempt(batch, answered))
        return answered is not None

    def _post(self, batch: tuple[str, ...]) -> tuple[str, ...] | None:
        items = [
            call_object(call_id, organization=ORGANIZATIONS[place % 2], start_timestamp=1_760_000_000_000 + place)
            for place, call_id in enumerate(batch)
        ]
        headers = {"Authorization": f"Bearer {self.world.secret}", "Content-Type": "application/json"}
        link = http.client.HTTPConnection("127.0.0.1", self.world.port, timeout=TIMEOUT_SECONDS)
        try:
            link.request("POST", "/api/v1/calls", json.dumps(items), headers)
            response = link.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            link.close()
        if response.status == 200:
            return tuple(item["status"] for item in json.loads(body)["items"])
        assert response.status == 503, (response.status, body[:500])
        self.waits.add(response.headers.get("Retry-After"))
        return None
