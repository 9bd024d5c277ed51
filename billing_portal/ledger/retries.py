"""Commands that met a deadlock, run again as a whole."""

import secrets
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog
from django.db import OperationalError, connection

log = structlog.get_logger(__name__)

ATTEMPTS = 4
_PAUSE_SECONDS = 0.05
# deadlock_detected, serialization_failure: PostgreSQL undid the transaction, and doing it again may succeed.
_UNDONE = {"40P01", "40001"}

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def whole(command: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Make `command`, which owns its transaction, run again when PostgreSQL undid it, at most ATTEMPTS times (F16).

    Between attempts it waits a random, growing moment, so that two that met do not meet again. Within a transaction of
    the caller nothing is repeated: only the whole can be.
    """

    @wraps(command)
    def repeated(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        for attempt in range(1, ATTEMPTS):
            try:
                return command(*args, **kwargs)
            except OperationalError as error:
                if connection.in_atomic_block or not _was_undone(error):
                    raise
                log.warning("command undone by the database", command=command.__qualname__, attempt=attempt)
            time.sleep(secrets.SystemRandom().uniform(0, _PAUSE_SECONDS * 2**attempt))
        return command(*args, **kwargs)

    return repeated


def _was_undone(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) in _UNDONE
