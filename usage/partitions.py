"""The months of calls as tables: attached ahead of time, detached for the archive.

A month is a calendar month in UTC, which has nothing to do with billing: it only says in which table a call lies. A
table is made beside its parent and attached, which takes no lock that keeps readers or writers waiting.
"""

import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import structlog
from django.db import connection, transaction

from usage import periods
from usage.models import CallRange, UnratedCall

# So long after its end hardly any call of a month comes.
QUIET = timedelta(days=3)
_PARENTS = ("usage_call", "usage_calldetail")
# One process at a time makes tables; the second finds them made.
_LOCK = 7_301_002

log = structlog.get_logger(__name__)

_known: set[date] = set()
# What readers go by: the months there were, and until when they take that for granted.
_LATELY_SECONDS = 20.0
_lately: list[tuple[float, list[date]]] = []


def month_of(instant: datetime) -> date:
    """Return the month in whose table a call that started at `instant` lies."""
    return periods.month_of(instant, UTC)


def ensure(months: Iterable[date]) -> None:
    """Make the tables of these months, unless they are there; what is known to be there costs nothing."""
    missing = set(months) - _known
    if not missing:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        there = _attached()
        for month in sorted(missing - there):
            for parent in _PARENTS:
                _attach(parent, month)
            log.info("month attached", month=f"{month:%Y-%m}")
        _lately.clear()
        transaction.on_commit(lambda: _known.update(missing))


def attach_ahead(now: datetime, *, months: int = 3) -> None:
    """Make the tables of this month and of those to come, so that no request has to."""
    month = month_of(now)
    ahead = [month]
    for _ in range(months):
        ahead.append(periods.next_month(ahead[-1]))
    ensure(ahead)


def detach(month: date) -> list[str]:
    """Take a month's tables out of their parents, and return their names; they stay in the database for the archive.

    Its calls are then in no list and no export; their ids stay taken, and what was settled stays in every sum. A late
    call of the month attaches it again. Call it outside a transaction: readers and writers go on meanwhile.
    """
    detached = []
    with connection.cursor() as cursor:
        for parent in _PARENTS:
            if month in _attached(parent):
                cursor.execute(f"ALTER TABLE {parent} DETACH PARTITION {_name(parent, month)} CONCURRENTLY")
                detached.append(_name(parent, month))
    _known.discard(month)
    _lately.clear()
    log.info("month detached", month=f"{month:%Y-%m}", tables=detached)
    return detached


def archive(now: datetime, *, months_kept: int) -> list[str]:
    """Detach the months that ended more than `months_kept` months ago; return the names of their tables.

    A month in which a call still waits for its price or its settlement stays.
    """
    oldest = month_of(now)
    for _ in range(months_kept):
        oldest = periods.previous_month(oldest)
    return [name for month in months() if month < oldest and not _is_waiting(month) for name in detach(month)]


def compact(now: datetime) -> list[str]:
    """Build the indexes of months that are over anew, where they have become loose; return their names.

    Calls of many organizations come in turn, and each organization's part of an index grows in its middle: pages are
    split and stay half empty. Outside a transaction; readers and writers go on meanwhile.
    """
    compacted = []
    with connection.cursor() as cursor:
        for month in months():
            if periods.starts_at(periods.next_month(month), UTC) + QUIET <= now:
                for parent in _PARENTS:
                    cursor.execute(_LOOSE_INDEXES, [_name(parent, month), _LOOSE_ENTRY_BYTES, _SMALL_BYTES])
                    compacted += [name for (name,) in cursor.fetchall()]
        for name in compacted:
            cursor.execute(f"REINDEX INDEX CONCURRENTLY {name}")
    if compacted:
        log.info("indexes compacted", indexes=compacted)
    return compacted


# An entry of the key has 36 bytes, 40 in a page that is as full as a new index makes it.
_LOOSE_ENTRY_BYTES = 52
_SMALL_BYTES = 100_000
_LOOSE_INDEXES = """
    SELECT indexrelid::regclass::text
    FROM pg_index JOIN pg_class AS month ON month.oid = indrelid
    WHERE indrelid = %s::regclass AND indisprimary AND reltuples > 0
      AND pg_relation_size(indexrelid) > greatest(reltuples * %s, %s)"""


def months() -> list[date]:
    """Return the months that have a table, in order."""
    return sorted(_attached())


def months_lately() -> list[date]:
    """Return the months that have a table, as they were at most some seconds ago: for pages, which ask all the time."""
    if not _lately or time.monotonic() > _lately[0][0]:
        _lately[:] = [(time.monotonic() + _LATELY_SECONDS, months())]
    return _lately[0][1]


def _is_waiting(month: date) -> bool:
    span = {"gte": f"{month} 00:00+00", "lt": f"{periods.next_month(month)} 00:00+00"}
    waiting = CallRange.objects.filter(first_sequence=None, starts_at__lt=span["lt"], ends_at__gte=span["gte"])
    unrated = UnratedCall.objects.filter(started_at__gte=span["gte"], started_at__lt=span["lt"])
    return waiting.exists() or unrated.exists()


def forget() -> None:
    """Drop what this process knows: for one whose database is emptied under it, as tests do."""
    _known.clear()
    _lately.clear()


def _attached(parent: str = _PARENTS[-1]) -> set[date]:
    """Return the months of a parent's tables, by their names."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right(inhrelid::regclass::text, 6) FROM pg_inherits WHERE inhparent = %s::regclass", [parent]
        )
        return {datetime.strptime(name, "%Y%m").replace(tzinfo=UTC).date() for (name,) in cursor.fetchall()}


def _attach(parent: str, month: date) -> None:
    name = _name(parent, month)
    bounds = f"FROM ('{month} 00:00+00') TO ('{periods.next_month(month)} 00:00+00')"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        cursor.execute(f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}")


def _name(parent: str, month: date) -> str:
    return f"{parent}_{month:%Y%m}"
