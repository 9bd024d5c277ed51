"""Pages and exports are read from a replica, where there is one (`REPLICA_URL`); who just changed something sees it.

A view under `reads` runs with the replica in the place of the default connection, so that all of its queries see one
database. That is a standby, which refuses every write and every lock of a row: nothing that decides on money, rights or
what is recorded can happen there by mistake. Whatever the replica cannot do, or does not survive, is done again on the
primary, which is safe, as nothing was written.

The replica is used only while it is not too far behind, and for someone who changed something only when it has replayed
that: a cookie says how far the primary's log had come then. All times are of the process's own clock, and all places in
the log are the database's, so no two clocks are compared.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, InternalError, OperationalError, connections
from django.http import HttpRequest, HttpResponseBase

ALIAS = "replica"
COOKIE = "written_at"
# How often a process asks both servers how far they are, and how long it leaves a replica alone that failed.
CHECK_SECONDS = 1.0
ASIDE_SECONDS = 5.0
_SAFE = ("GET", "HEAD")
_POLL_SECONDS = 0.01

# Places in the log as plain numbers. The primary's may be some bytes past the last record; then it is asked instead.
_WRITTEN = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_REPLAYED = "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint"

log = structlog.get_logger(__name__)


class _Watch:
    """What this process knows of the replica: places of the primary's log, when they were seen, and how far it is."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.seen: deque[tuple[float, int]] = deque()
        self.replayed = 0
        self.checked_at = self.away_until = float("-inf")

    def is_close(self) -> bool:
        """Say whether the replica is as the primary was at most REPLICA_MOST_LAG_SECONDS ago."""
        now = time.monotonic()
        if now < self.away_until:
            return False
        if now - self.checked_at >= CHECK_SECONDS and self.asking.acquire(blocking=False):
            try:
                self._check(now)
            finally:
                self.asking.release()
        oldest = time.monotonic() - settings.REPLICA_MOST_LAG_SECONDS
        return any(at >= oldest and place <= self.replayed for at, place in list(self.seen))

    def set_aside(self, error: BaseException) -> None:
        """Leave the replica alone for some seconds."""
        self.away_until = time.monotonic() + ASIDE_SECONDS
        log.warning("replica set aside", error=type(error.__cause__ or error).__name__)
        with suppress(DatabaseError, InterfaceError):
            connections[ALIAS].close()

    def _check(self, now: float) -> None:
        self.checked_at = now
        self.seen.append((now, position()))
        while self.seen[0][0] < now - settings.REPLICA_MOST_LAG_SECONDS:
            self.seen.popleft()
        try:
            self.replayed = _replayed()
        except (DatabaseError, InterfaceError) as error:
            self.set_aside(error)


_watch = _Watch()


def forget() -> None:
    """Drop what this process knows: for one that is given another replica, as tests are."""
    _watch.forget()


def is_there() -> bool:
    """Say whether a replica is configured."""
    return ALIAS in connections.settings


def position() -> int:
    """Return how far the primary's log has come: what is committed before this is behind it."""
    return _asked(DEFAULT_DB_ALIAS, _WRITTEN)


def catches_up(place: int, *, within_seconds: float) -> bool:
    """Say whether the replica has replayed the log up to `place`, waiting so long for it."""
    give_up_at = time.monotonic() + within_seconds
    try:
        while _replayed() < place:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(_POLL_SECONDS)
    except (DatabaseError, InterfaceError) as error:
        _watch.set_aside(error)
        return False
    return True


def catches_up_now() -> bool:
    """Say whether the replica comes to hold all that is committed by now; wait REPLICA_MOST_LAG_SECONDS at most."""
    if not _may_be_used() or time.monotonic() < _watch.away_until:
        return False
    return catches_up(position(), within_seconds=settings.REPLICA_MOST_LAG_SECONDS)


def reads(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let a view read from the replica where that is as good; its first argument is the request.

    It stands below what decides who may see it. A view that fails there for the replica's sake runs once more on the
    primary, so it must not do anything but read.
    """

    @wraps(view)
    def reading(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method not in _SAFE or not _is_good_for(request):
            return view(request, *args, **kwargs)
        try:
            with used():
                return view(request, *args, **kwargs)
        except Unfit:
            return view(request, *args, **kwargs)

    reading.reads_replica = True  # type: ignore[attr-defined]
    return reading


def streamed(request: HttpRequest, begin: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """Return the chunks of a body that outlives its view, read from the replica where that is as good.

    `begin` is called anew for the primary if the replica fails before the first chunk. Later, the body breaks off.
    """
    return _chunks(begin) if _is_good_for(request) else iter(begin())


class Unfit(Exception):
    """The replica could not do it: it is gone, in the way of replay, or was asked to write."""


@contextmanager
def used(wanted: bool = True) -> Iterator[None]:
    """Put the replica in the place of the default connection, if `wanted`. Raises Unfit: then let the primary do it."""
    if not wanted:
        yield
        return
    primary = connections[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections[ALIAS]
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        if not _is_the_replicas_fault(error):
            raise
        raise Unfit from error
    finally:
        connections[DEFAULT_DB_ALIAS] = primary


def remember_writes(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Middleware: after a person's change, or a return from another site, note in a cookie what must be seen."""
    if not is_there():
        raise MiddlewareNotUsed

    def remember(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        has_session = (
            settings.SESSION_COOKIE_NAME in request.COOKIES or settings.SESSION_COOKIE_NAME in response.cookies
        )
        if has_session and (request.method not in _SAFE or response.status_code in {301, 302, 303, 307}):
            with suppress(DatabaseError, InterfaceError):
                _note(response)
        return response

    return remember


def _note(response: HttpResponseBase) -> None:
    # A replica that is further behind is not used at all, so the cookie need not live longer.
    response.set_cookie(
        COOKIE,
        str(position()),
        max_age=settings.REPLICA_MOST_LAG_SECONDS + 10,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )


def _is_good_for(request: HttpRequest) -> bool:
    if not _may_be_used() or not _watch.is_close():
        return False
    place = request.COOKIES.get(COOKIE)
    if place is None:
        return True
    if not (place.isascii() and place.isdigit() and len(place) < 20):
        return False
    return _watch.replayed >= int(place) or catches_up(
        int(place), within_seconds=settings.REPLICA_PATIENCE_MILLISECONDS / 1000
    )


def _may_be_used() -> bool:
    """Say whether there is a replica, and nothing that only our own transaction can see."""
    return is_there() and not connections[DEFAULT_DB_ALIAS].in_atomic_block


def _replayed() -> int:
    return _asked(ALIAS, _REPLAYED)


def _asked(alias: str, question: str) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(question)
        (answer,) = cursor.fetchone()
    if answer is None:
        raise OperationalError("REPLICA_URL does not name a standby")
    return int(answer)


def _is_the_replicas_fault(error: Exception) -> bool:
    """Say whether the primary may succeed where the replica failed; it takes as long for what took too long."""
    if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
        return False
    if isinstance(error, InternalError) and not isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
        return False
    if not connections[ALIAS].is_usable():
        _watch.set_aside(error)
    else:
        log.warning("left the replica", error=type(error.__cause__ or error).__name__)
    return True


def _chunks(begin: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """Yield chunks that are each read from the replica, while nothing else of this thread is."""
    chunks = iter(begin())
    try:
        with used():
            chunk = next(chunks, None)
    except Unfit:
        yield from begin()
        return
    try:
        while chunk is not None:
            yield chunk
            with used():
                chunk = next(chunks, None)
    finally:
        if isinstance(chunks, Generator):
            with used():
                chunks.close()
