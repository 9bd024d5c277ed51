"""Whether every call has arrived, from the numbers that the vendor's sources count their calls by.

A source numbers the calls of one organization without a gap: 1, 2, 3, … or from wherever it starts. What arrived is
kept as ranges. Ingest appends runs of numbers and waits for nobody; `fold` merges them into the ranges afterwards, and
every reading looks at both, so it is right at any moment. A number that arrived is there, whatever became of its call:
rejected, a duplicate or a conflict. What a source lost before its first number, or after its last, cannot be seen.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import NamedTuple

import structlog
from django.db import connection, transaction

from usage.models import SequenceNote

log = structlog.get_logger(__name__)

# Requests overtake each other: a number that is younger than this may still be on its way.
GRACE = timedelta(minutes=1)
# Of a source that leaves out numbers on principle, the oldest gaps are given up rather than kept without end.
MAX_RANGES = 1_000
_LOCK = 7_301_003


class Arrival(NamedTuple):
    """A number that arrived, and when its call was over, if that could be read."""

    organization_id: int
    source: str
    sequence: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that have not arrived, between two that have. `since` is when a later one arrived first."""

    after: int
    before: int
    since: datetime

    @property
    def missing(self) -> int:
        return self.before - self.after - 1


@dataclass(frozen=True, slots=True)
class Source:
    """What arrived of one source. `complete_to` is when the last call before the first gap was over.

    `gaps` are those older than the grace, in the order of their numbers; `arriving` counts the numbers of younger ones.
    `given_up` counts numbers that are no longer waited for.
    """

    name: str
    first: int
    last: int
    received: int
    given_up: int
    complete_to: datetime | None
    last_received_at: datetime
    gaps: list[Gap] = field(default_factory=list)
    arriving: int = 0

    @property
    def missing(self) -> int:
        return sum(gap.missing for gap in self.gaps)

    @property
    def is_complete(self) -> bool:
        return not self.gaps and not self.arriving


@dataclass(frozen=True, slots=True)
class Seal:
    """The state of all sources; none, where the vendor sends no numbers."""

    sources: list[Source]

    @property
    def complete_to(self) -> datetime | None:
        """Until when every call is here: the earliest end of the incomplete sources, else the latest of all."""
        incomplete = [source.complete_to for source in self.sources if not source.is_complete]
        if incomplete:
            return min((end for end in incomplete if end), default=None) if all(incomplete) else None
        return max((source.complete_to for source in self.sources if source.complete_to), default=None)

    @property
    def missing(self) -> int:
        return sum(source.missing for source in self.sources)

    @property
    def arriving(self) -> int:
        return sum(source.arriving for source in self.sources)

    @property
    def gaps(self) -> list[tuple[str, Gap]]:
        """All gaps with the names of their sources, the oldest first."""
        gaps = [(source.name, gap) for source in self.sources for gap in source.gaps]
        return sorted(gaps, key=lambda pair: (pair[1].since, pair[0], pair[1].after))


_NOTE = """
    INSERT INTO usage_sequencenote (organization_id, source, first, last, missing, latest_at, received_at)
    SELECT o, s, f, l, 0, a, %s
    FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[]) AS run (o, s, f, l, a)"""

# Parts that overlap or touch become one: a part opens an island where it begins past the end of all before it.
_ISLANDS = """
    SELECT source, min(first) AS first, max(last) AS last, sum(missing)::bigint AS missing, max(latest_at) AS latest_at,
           min(first_received_at) AS first_received_at, max(last_received_at) AS last_received_at
    FROM (
        SELECT *, count(*) FILTER (WHERE opens) OVER (PARTITION BY source ORDER BY first, last, tie) AS island
        FROM (
            SELECT *, first > 1 + max(last) OVER (
                PARTITION BY source ORDER BY first, last, tie ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS opens FROM parts
        ) AS marked
    ) AS numbered
    GROUP BY source, island"""

_READ = f"""
    WITH parts AS (
        SELECT id * 2 AS tie, source, first, last, missing, latest_at, first_received_at, last_received_at
        FROM usage_sequencerange WHERE organization_id = %s
        UNION ALL
        SELECT id * 2 + 1, source, first, last, missing, latest_at, received_at, received_at
        FROM usage_sequencenote WHERE organization_id = %s
    ) {_ISLANDS} ORDER BY source, first"""

_FOLD = f"""
    WITH noted AS (
        DELETE FROM usage_sequencenote WHERE organization_id = %(o)s AND source = %(s)s RETURNING *
    ), touched AS (
        DELETE FROM usage_sequencerange USING (SELECT min(first) - 1 AS lo, max(last) + 1 AS hi FROM noted) AS span
        WHERE organization_id = %(o)s AND source = %(s)s AND last >= lo AND first <= hi RETURNING usage_sequencerange.*
    ), parts AS (
        SELECT id * 2 AS tie, source, first, last, missing, latest_at, first_received_at, last_received_at FROM touched
        UNION ALL
        SELECT id * 2 + 1, source, first, last, missing, latest_at, received_at, received_at FROM noted
    )
    INSERT INTO usage_sequencerange
        (organization_id, source, first, last, missing, latest_at, first_received_at, last_received_at)
    SELECT %(o)s, * FROM ({_ISLANDS}) AS islands"""

_GIVE_UP_OLDEST = """
    WITH oldest AS (
        DELETE FROM usage_sequencerange WHERE id IN (
            SELECT id FROM usage_sequencerange WHERE organization_id = %(o)s AND source = %(s)s
            ORDER BY first DESC OFFSET %(keep)s
        ) RETURNING *
    )
    INSERT INTO usage_sequencerange
        (organization_id, source, first, last, missing, latest_at, first_received_at, last_received_at)
    SELECT %(o)s, %(s)s, min(first), max(last), max(last) - min(first) + 1 - sum(last - first + 1 - missing),
           max(latest_at), min(first_received_at), max(last_received_at)
    FROM oldest HAVING count(*) > 0"""


def note(arrivals: Iterable[Arrival], *, now: datetime) -> None:
    """Keep that these numbers arrived. One statement for a whole batch, in the caller's transaction; none for nothing.

    Numbers may come in any order, again, and from several requests at once.
    """
    runs = list(_runs(arrivals))
    if not runs:
        return
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, [now, *(list(column) for column in zip(*runs, strict=True))])


def seal(organization_id: int, *, now: datetime) -> Seal:
    """Say how complete the organization's calls are, source by source."""
    return Seal([_source(islands, now) for islands in _sources(organization_id)])


def give_up(organization_id: int, source: str, *, first: int, last: int, now: datetime) -> int:
    """Wait no longer for the numbers from `first` to `last`, which the vendor knows were no calls.

    Only those that lie in a gap are given up; return how many that were.
    """
    with transaction.atomic():
        _lock(organization_id, source)
        gaps = [gap for each in _sources(organization_id) if each[0].source == source for gap in _gaps(each)]
        missing = [(max(first, gap.after + 1), min(last, gap.before - 1)) for gap in gaps]
        notes = [
            SequenceNote(
                organization_id=organization_id,
                source=source,
                first=starts,
                last=ends,
                missing=ends - starts + 1,
                received_at=now,
            )
            for starts, ends in missing
            if starts <= ends
        ]
        SequenceNote.objects.bulk_create(notes)
    numbers = sum(each.missing for each in notes)
    log.info("sequence numbers given up", organization_id=organization_id, source=source, numbers=numbers)
    return numbers


def fold(*, limit: int = 1_000) -> int:
    """Merge what was noted into the ranges, of up to `limit` sources; return how many. Safe twice and at once."""
    waiting = SequenceNote.objects.order_by("organization_id", "source").values_list("organization_id", "source")
    sources = list(waiting.distinct()[:limit])
    for organization_id, source in sources:
        _fold(organization_id, source)
    return len(sources)


def _fold(organization_id: int, source: str) -> None:
    key: dict[str, int | str] = {"o": organization_id, "s": source}
    with transaction.atomic(), connection.cursor() as cursor:
        _lock(organization_id, source)
        cursor.execute(_FOLD, key)
        cursor.execute("SELECT count(*) FROM usage_sequencerange WHERE organization_id = %(o)s AND source = %(s)s", key)
        (ranges,) = cursor.fetchone()
        if ranges > MAX_RANGES:
            cursor.execute(_GIVE_UP_OLDEST, key | {"keep": MAX_RANGES - 1})
            log.warning("old gaps given up", organization_id=organization_id, source=source, ranges=ranges)


def _lock(organization_id: int, source: str) -> None:
    """Keep others from changing the source until the transaction ends.

    A statement of its own: the next one then sees what the one before us did. Two sources may share the 32 bits of a
    lock; then they only wait for each other.
    """
    digest = hashlib.sha256(f"{organization_id} {source}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, int.from_bytes(digest[:4], "big", signed=True)])


class _Island(NamedTuple):
    """Numbers without a gap, as they are read."""

    source: str
    first: int
    last: int
    missing: int
    latest_at: datetime | None
    first_received_at: datetime
    last_received_at: datetime


def _sources(organization_id: int) -> Iterator[list[_Island]]:
    """Yield the islands of each source in their order."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [organization_id, organization_id])
        islands = [_Island(*row) for row in cursor.fetchall()]
    for _, of_one in itertools.groupby(islands, key=lambda island: island.source):
        yield list(of_one)


def _gaps(islands: list[_Island]) -> list[Gap]:
    """Return the gaps between islands. A gap is known since any number behind it arrived."""
    gaps = []
    since = islands[-1].first_received_at
    for before, after in zip(islands[-2::-1], islands[:0:-1], strict=True):
        since = min(since, after.first_received_at)
        gaps.append(Gap(after=before.last, before=after.first, since=since))
    return gaps[::-1]


def _source(islands: list[_Island], now: datetime) -> Source:
    """Return what the islands of one source, in their order, say together."""
    gaps = _gaps(islands)
    return Source(
        name=islands[0].source,
        first=islands[0].first,
        last=islands[-1].last,
        received=sum(island.last - island.first + 1 - island.missing for island in islands),
        given_up=sum(island.missing for island in islands),
        complete_to=islands[0].latest_at,
        last_received_at=max(island.last_received_at for island in islands),
        gaps=[gap for gap in gaps if gap.since <= now - GRACE],
        arriving=sum(gap.missing for gap in gaps if gap.since > now - GRACE),
    )


def _runs(arrivals: Iterable[Arrival]) -> Iterator[tuple[int, str, int, int, datetime | None]]:
    """Yield (organization, source, first, last, latest) of consecutive numbers."""
    ordered = sorted(arrivals, key=itemgetter(0, 1, 2))
    for (organization_id, source), of_one in itertools.groupby(ordered, key=itemgetter(0, 1)):
        (_, _, first, latest), *rest = of_one
        last = first
        for _, _, sequence, at in rest:
            if sequence > last + 1:
                yield organization_id, source, first, last, latest
                first, latest = sequence, at
            elif latest is None or (at is not None and at > latest):
                latest = at
            last = sequence
        yield organization_id, source, first, last, latest
