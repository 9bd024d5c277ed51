"""How much may be recorded at once, so that a flood is told to wait before anything falls over.

Beside it stand the limit of each key (`accounts.rate_limits`) and that of statements (`accounts.web_connections`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog
from django.conf import settings

from accounts.problems import Problem
from usage import backlog

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1
_SETTLEMENT_RETRY_SECONDS = 30
_MEASURED_EVERY_SECONDS = 10.0


class _Recording:
    """The requests of this process that are recording."""

    lock = threading.Lock()
    count = 0


class _Backlog:
    """What this process last saw of the calls that wait for settlement."""

    lock = threading.Lock()
    measured_at = float("-inf")
    is_too_long = False


@contextmanager
def recording() -> Iterator[None]:
    """Hold one of the process's places. Raises Problem when none is free, or when settlement cannot keep up."""
    if _is_settlement_behind():
        raise _behind()
    with _Recording.lock:
        if _Recording.count >= settings.API_RECORDING_AT_ONCE:
            raise _busy()
        _Recording.count += 1
    try:
        yield
    finally:
        with _Recording.lock:
            _Recording.count -= 1


def _is_settlement_behind() -> bool:
    """Say whether too much waits. One thread measures now and then, and the others go by what was seen last."""
    if time.monotonic() - _Backlog.measured_at < _MEASURED_EVERY_SECONDS:
        return _Backlog.is_too_long
    if _Backlog.lock.acquire(blocking=False):
        try:
            _Backlog.is_too_long = backlog.is_too_long(most_calls=settings.API_MOST_WAITING_CALLS)
            _Backlog.measured_at = time.monotonic()
        finally:
            _Backlog.lock.release()
    return _Backlog.is_too_long


def _behind() -> Problem:
    log.error("request refused: settlement is behind", most_waiting=settings.API_MOST_WAITING_CALLS)
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "settlement-behind",
        "Too many calls wait for settlement",
        f"Nothing was recorded. Send this again in {_SETTLEMENT_RETRY_SECONDS} s.",
        headers={"Retry-After": str(_SETTLEMENT_RETRY_SECONDS)},
    )


def _busy() -> Problem:
    log.warning("request refused: too many are recording", at_once=settings.API_RECORDING_AT_ONCE)
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        "Too many requests at once",
        f"Nothing was recorded. Send this again in {_RETRY_SECONDS} s, and fewer requests at a time with more items.",
        headers={"Retry-After": str(_RETRY_SECONDS)},
    )
