"""PostgreSQL's own benchmark, as the yardstick of what writes on this machine can cost."""

import re
import subprocess

from django.db import connection

from billing_portal.local import postgres

_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


class CannotMeasure(Exception):
    """pgbench is not installed, or failed; carries what it said."""


def simple_updates_a_second(*, writers: int = 8, seconds: int = 10) -> float:
    """Return how many transactions of pgbench's simple-update `writers` connections commit a second.

    In the database in use; its tables are made first and dropped afterwards.
    """
    _run("-i", "-q", "-s", "10")
    try:
        said = _run("-N", "-c", str(writers), "-j", "2", "-T", str(seconds))
    finally:
        _run("-i", "-I", "d")
    return float(_RATE.findall(said)[-1])


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
