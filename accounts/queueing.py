"""Queueing tasks: now, or left to the sweep.

What is committed must not be answered as failed because the broker is away (F20). Whatever is queued here only hurries
what a sweep finds in PostgreSQL anyway, so a broker that cannot be reached is logged and never raised. For some seconds
after that nobody tries again: each try takes half a second, and a burst of requests must not wait for every one.
"""

import time
from functools import partial
from typing import Any

import structlog
from django.core.cache import cache
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

# What broker and cache raise when they cannot be reached or refuse to serve.
UNREACHABLE = (OperationalError, RedisError)
PAUSE_SECONDS = 5.0


class _Broker:
    """What this process last saw of the broker."""

    away_until = 0.0


def on_commit(task: Any, *args: Any, countdown: float = 0) -> None:
    """Queue a task once the present transaction is committed, at once where there is none (F22)."""
    transaction.on_commit(partial(send, task, *args, countdown=countdown))


def send(task: Any, *args: Any, countdown: float = 0) -> bool:
    """Queue a task now; False where it is left to the sweep."""
    if _is_away():
        return False
    try:
        task.apply_async(args, countdown=countdown or None, retry=False)
    except UNREACHABLE as error:
        _note(error, task=task.name)
        return False
    return True


def claim(key: str, *, seconds: int) -> bool:
    """Say whether nobody claimed `key` within the last `seconds`: a burst needs only one task.

    Without the cache nobody can tell, so everyone may go on; `send` will not get far either.
    """
    if _is_away():
        return True
    try:
        return bool(cache.add(key, 1, timeout=seconds))
    except UNREACHABLE as error:
        _note(error, key=key)
        return True


def release(key: str) -> None:
    """Give up a claim, so that the next one may queue again; one that stays runs out by itself."""
    try:
        cache.delete(key)
    except UNREACHABLE as error:
        _note(error, key=key)


def _is_away() -> bool:
    return time.monotonic() < _Broker.away_until


def _note(error: Exception, **fields: str) -> None:
    _Broker.away_until = time.monotonic() + PAUSE_SECONDS
    log.warning("left to the sweep", error=type(error).__name__, **fields)
