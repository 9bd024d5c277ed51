"""How much may be recorded at once, so that a flood is told to wait before anything falls over.

Beside it stand the limit of each key (`accounts.rate_limits`) and that of statements (`accounts.web_connections`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog
from django.conf import settings

from accounts.problems import Problem

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1


class _Recording:
    """The requests of this process that are recording."""

    lock = threading.Lock()
    count = 0


@contextmanager
def recording() -> Iterator[None]:
    """Hold one of the process's places. Raises Problem when none is free: nothing was recorded then."""
    with _Recording.lock:
        if _Recording.count >= settings.API_RECORDING_AT_ONCE:
            raise _busy()
        _Recording.count += 1
    try:
        yield
    finally:
        with _Recording.lock:
            _Recording.count -= 1


def _busy() -> Problem:
    log.warning("request refused: too many are recording", at_once=settings.API_RECORDING_AT_ONCE)
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        "Too many requests at once",
        f"Nothing was recorded. Send this again in {_RETRY_SECONDS} s, and fewer requests at a time with more items.",
        headers={"Retry-After": str(_RETRY_SECONDS)},
    )
