"""PostgreSQL's own benchmark, as the yardstick of what writes on this machine can cost."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from billing_portal.local import postgres

_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


class CannotMeasure(Exception):
    """pgbench is not installed, or failed; carries what it said."""


def simple_updates_a_second(*, writers: int = 8, seconds: int = 10) -> float:
    """Return how many transactions of pgbench's simple-update `writers` connections commit a second.

    In the database in use; its tables are made first and dropped afterwards.
    """
    with tables():
        return updates_a_second(writers=writers, seconds=seconds)


@contextmanager
def tables() -> Iterator[None]:
    """Have pgbench's tables in the database in use."""
    _run("-i", "-q", "-s", "10")
    try:
        yield
    finally:
        _run("-i", "-I", "d")


def updates_a_second(*, writers: int, seconds: int) -> float:
    """Return what `simple_updates_a_second` does, of tables that are there."""
    return float(_RATE.findall(_run("-N", "-c", str(writers), "-j", "2", "-T", str(seconds)))[-1])


def _run(*arguments: str) -> str:
    program = next((found / "pgbench" for found in postgres.installed() if (found / "pgbench").exists()), None)
    if program is None:
        raise CannotMeasure("pgbench was not found beside PostgreSQL's other programs.")
    connected = connection.get_connection_params()
    address = " ".join(
        f"{key}='{connected[key]}'" for key in ("host", "port", "user", "password", "dbname") if connected.get(key)
    )
    answer = subprocess.run([program, *arguments, address], capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode:
        raise CannotMeasure(answer.stderr)
    return answer.stdout
