"""The whole product, as it runs: its own servers, sandbox, web, worker and beat, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from billing_portal.local import servers
from billing_portal.local.processes import CHECKOUT, Processes, free_port
from tests import migrated

START_OF_TIME = "2026-10-20T08:00:00+00:00"


@dataclass
class Portal:
    """A running portal, spoken to over HTTP and through its commands."""

    url: str
    sandbox_url: str
    directory: Path
    processes: Processes

    def manage(self, *arguments: str) -> str:
        """Run a command of manage.py and return what it printed."""
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env={**os.environ, **self.processes.environment},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    def letters(self) -> list[str]:
        """Return the plain texts of all mail sent so far, the oldest first."""
        found = []
        for path in sorted((self.directory / "mail").glob("*"), key=lambda path: path.stat().st_mtime_ns):
            for part in path.read_bytes().split(b"\n" + b"-" * 79 + b"\n"):
                if part.strip():
                    body = message_from_bytes(part, policy=default).get_body(("plain",))
                    found.append(body.get_content() if body else "")
        return found


@pytest.fixture(scope="session")
def portal() -> Iterator[Portal]:
    home = Path(tempfile.mkdtemp(prefix="portal-journey-", dir="/var/tmp"))
    home.chmod(0o755)
    embedded = servers.ensure(home, durable=False)
    url, sandbox = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    environment = {
        "LOCAL_DIR": str(home),
        "DATABASE_URL": embedded.database_url,
        "BROKER_URL": embedded.broker_url,
        "BASE_URL": url,
        "STRIPE_API_BASE": sandbox,
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
    }
    processes = Processes(logs=home / "logs", environment=environment)
    running = Portal(url=url, sandbox_url=sandbox, directory=home, processes=processes)
    try:
        processes.start(
            "sandbox", "manage.py", "sandbox", "--port", sandbox.rpartition(":")[2], "--clock", START_OF_TIME,
            "--webhook", f"{url}/stripe/webhooks/", "--webhook-secret", "whsec_sandbox",
        )  # fmt: skip
        migrated.pour(embedded)
        processes.wait_for("sandbox", f"{sandbox}/_sandbox/clock")
        running.manage("load_prices", "usage/price_books/parley.toml")
        running.manage("advance_clock", "2026-10-21T09:00")
        processes.start(
            "web", "-m", "gunicorn", "billing_portal.wsgi", "--bind", url.removeprefix("http://"), "--threads", "4"
        )
        processes.start("worker", "-m", "celery", "-A", "billing_portal", "worker", "--concurrency", "2")
        processes.start("beat", "-m", "celery", "-A", "billing_portal", "beat", "--pidfile", str(home / "beat.pid"))
        processes.wait_for("web", f"{url}/accounts/login/")
        yield running
    finally:
        processes.stop()
        servers.remove(home)
        shutil.rmtree(home, ignore_errors=True)
