"""The portal's processes beside a benchmark, as they run in production, and what they use of the machine."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import connection

from billing_portal.local import processes

# Against the real Stripe nothing asks the cache for a clock; no benchmark sends it anything.
_AS_IN_PRODUCTION = {
    "STRIPE_API_BASE": "https://api.stripe.com",
    "STRIPE_WEBHOOK_SECRETS": "whsec_bench",
    "SECRET_KEY": "a-secret-of-the-benchmark-alone-which-guards-nothing-at-all",
    "RECEIPT_SIGNING_KEY": base64.b64encode(bytes(32)).decode(),
}


@contextmanager
def web(*, workers: int = 2, threads: int = 4) -> Iterator[tuple[int, int]]:
    """Yield the port and the process number of gunicorn with so many web processes."""
    port = processes.free_port()
    command = [sys.executable, "-m", "gunicorn", "billing_portal.wsgi", "--bind", f"127.0.0.1:{port}", "--preload"]
    command += ["--worker-class", "gthread"]
    log = Path(os.environ["LOCAL_DIR"]) / "web.log"
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603 - our own program
            [*command, "--workers", str(workers), "--threads", str(threads), "--keep-alive", "60"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_AS_IN_PRODUCTION},
        )
        try:
            while processes.is_free(port):
                if server.poll() is not None:
                    raise RuntimeError(f"The web processes did not start:\n{log.read_text()[-2_000:]}")
                time.sleep(0.1)
            yield port, server.pid
        finally:
            server.terminate()
            server.wait()


def postmaster() -> int:
    """Return the number of PostgreSQL's first process."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_read_file('postmaster.pid')")
        return int(cursor.fetchone()[0].split()[0])


def cpu_of(process: int) -> float:
    """Return the CPU seconds of a process and of all its children, those that ended included."""
    own = _stat(process)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ticks = sum(own[11:15]) + sum(sum(_stat(int(child))[11:13]) for child in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(*roots: int) -> float:
    """Return the megabytes of processes and all their children, what they share counted once."""
    found, left = set[int](), list(roots)
    while left:
        process = left.pop()
        found.add(process)
        with suppress(FileNotFoundError):
            left += map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return sum(map(processes.proportional_bytes, found)) / 1e6


def _stat(process: int) -> list[int]:
    """Return the fields of a process behind its name, from its state's on; no field of one that has just ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return []
    return [0, *map(int, fields[1:])]
