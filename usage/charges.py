"""Charges between rating and the ledger: which wait, how they are numbered, and what they say."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection

from usage import columns, deltas, prices, rating, revisions, rollup_upkeep
from usage.models import Call, CallRange, CallRevision, PriceVersion
from usage.rollup_upkeep import Folded

_CHUNK = 2_000


class AlreadySettled(Exception):
    """Some of the ranges have numbers already: they were read without the organization's lock."""


class WaitingRange(NamedTuple):
    """Calls with consecutive ids that wait for their numbers, in the order of their start."""

    first_id: int
    last_id: int
    starts_at: datetime
    ends_at: datetime
    micros: int

    @property
    def calls(self) -> int:
        return self.last_id - self.first_id + 1


class Batch(NamedTuple):
    """Ranges of one organization that are billed in one month, and the number of their first call."""

    organization_id: int
    ranges: Sequence[WaitingRange]
    first_sequence: int
    month: date
    time_zone: str

    @property
    def calls(self) -> int:
        return sum(each.calls for each in self.ranges)


class ChargedCall(NamedTuple):
    """A settled call with its lines: amounts by the places of `rate_ids`, zeros at the end left out.

    Of a later revision `line_micros` is what it costs more, `price_micros` its price in full.
    """

    sequence: int
    id: int
    call_id: str
    started_at: datetime
    duration_ms: int
    products: list[str]
    llm_tokens: int
    llm_requests: int
    price_version_id: int
    rate_ids: list[int]
    line_micros: list[int]
    amount_micros: int
    revision: int
    price_micros: list[int]


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a price; `quantity` is milliseconds, calls or tokens, as the unit says."""

    component: str
    product: str
    label: str
    unit: str
    rate_micros: int
    quantity: int
    micros: int


@dataclass(frozen=True)
class Charge:
    """What one revision of a call costs under one price version; until settlement it has no number, month or day.

    `amount_micros` is what was charged of it, which of a later `revision` is only what it costs more than the one that
    it replaces. `date` is the day of the call in the organization's zone as it was at settlement.
    """

    call: Call
    currency: str
    amount_micros: int
    revision: CallRevision | None
    received_at: datetime
    sequence: int | None
    billed_month: date | None
    date: date | None

    @cached_property
    def price_version(self) -> PriceVersion:
        """The prices that the call was rated by."""
        versions = PriceVersion.objects.select_related("book")
        return versions.get(pk=_version_of(self.call))

    @property
    def price_micros(self) -> int:
        """What the call costs in this revision: what all revisions so far were charged, less what was given back."""
        return self.amount_micros if self.revision is None else sum(self.revision.line_micros or ())

    @property
    def given_back_micros(self) -> int:
        """What the revision costs less, component by component, than the one that it replaces."""
        return self.revision.given_back_micros if self.revision else 0

    @cached_property
    def lines(self) -> list[ChargeLine]:
        """The lines in the order of rating; their micros add up to the price."""
        in_full = self.revision.line_micros or [] if self.revision else self.call.line_micros
        return list(lines(self.call, in_full))

    @cached_property
    def charged(self) -> dict[str, int]:
        """Micros charged by component; they add up to the amount."""
        refs = prices.rate_refs(set(self.call.mix.rate_ids))
        components = [refs[rate_id].component for rate_id in self.call.mix.rate_ids]
        return dict(deltas.by_component(components, self.call.line_micros))


_FIRST = """
    FROM unnest(%(organizations)s::bigint[]) WITH ORDINALITY AS asked (id, place)
    CROSS JOIN LATERAL (
        SELECT organization_id, first_id, last_id, starts_at, ends_at, micros FROM usage_callrange
        WHERE organization_id = asked.id AND first_sequence IS NULL ORDER BY starts_at, first_id LIMIT %(limit)s
    ) AS r
    LIMIT %(limit)s"""

_WAITING = f"SELECT r.organization_id, r.first_id, r.last_id, r.starts_at, r.ends_at, r.micros {_FIRST}"

# Of the same ranges only whose they are is asked: to read them all twice took a third of a settlement in Python.
_TURN = f"""
    SELECT organization_id, sum(last_id - first_id + 1)::bigint
    FROM (SELECT r.organization_id, r.first_id, r.last_id, asked.place {_FIRST}) AS first
    GROUP BY place, organization_id ORDER BY place"""

# Ranges are to be found by their key. Did this say IS NULL, statistics made while little waited would suggest the index
# of what waits, all of which would be read for every range: thousands of ranges took seconds.
_NUMBER = """
    UPDATE usage_callrange AS numbered
    SET first_sequence = batch.sequence, billed_month = batch.month, time_zone = batch.time_zone
    FROM unnest(%(organizations)s::bigint[], %(ids)s::bigint[], %(sequences)s::bigint[], %(months)s::date[],
                %(zones)s::text[]) AS batch (organization_id, id, sequence, month, time_zone)
    WHERE numbered.organization_id = batch.organization_id AND first_id = batch.id AND coalesce(first_sequence, 0) = 0
    RETURNING numbered.*"""

_LAST_BEFORE = """
    SELECT max(id) FROM usage_call
    WHERE organization_id = %s AND started_at >= %s AND started_at < %s AND id BETWEEN %s AND %s"""

_HALVES = """
    SELECT max(started_at) FILTER (WHERE id <= %s), sum(amount_micros) FILTER (WHERE id <= %s),
           min(started_at) FILTER (WHERE id > %s)
    FROM usage_call WHERE organization_id = %s AND started_at BETWEEN %s AND %s AND id BETWEEN %s AND %s"""

_SHORTEN = """
    UPDATE usage_callrange SET last_id = %s, ends_at = %s, micros = %s WHERE organization_id = %s AND first_id = %s"""

_REST = """
    INSERT INTO usage_callrange
        (organization_id, first_id, last_id, starts_at, ends_at, micros, received_at, time_zone)
    SELECT organization_id, %s, %s, %s, %s, %s, received_at, '' FROM usage_callrange
    WHERE organization_id = %s AND first_id = %s"""

_CHARGED = """
    SELECT r.first_sequence + c.id - r.first_id, c.id, c.call_id, c.started_at, c.duration_ms, m.products, c.llm_tokens,
           c.llm_requests, m.price_version_id, m.rate_ids, c.line_micros, c.amount_micros, c.revision,
           coalesce(v.line_micros, c.line_micros)
    FROM usage_callrange r
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    JOIN usage_productmix m ON m.id = c.mix_id
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = c.organization_id AND v.id = c.id
    WHERE r.organization_id = %s AND {condition}
    ORDER BY r.first_sequence, c.id"""

_LINES = """
    SELECT c.organization_id, c.mix_id, c.line_micros
    FROM unnest(%(organizations)s::bigint[], %(ids)s::bigint[]) AS batch (organization_id, id)
    JOIN usage_callrange r ON r.organization_id = batch.organization_id AND r.first_id = batch.id
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    ORDER BY r.organization_id, r.first_sequence, c.id"""

_RANGE_OF_ID = """
    SELECT first_id, first_sequence, billed_month, time_zone, received_at, starts_at FROM usage_callrange
    WHERE organization_id = %s AND first_id <= %s AND last_id >= %s ORDER BY first_id DESC LIMIT 1"""


_UNCHARGED = """
    SELECT c.call_id FROM usage_call c
    LEFT JOIN usage_unratedcall u ON u.organization_id = c.organization_id AND u.id = c.id
    LEFT JOIN LATERAL (
        SELECT last_id FROM usage_callrange
        WHERE organization_id = c.organization_id AND first_id <= c.id ORDER BY first_id DESC LIMIT 1
    ) AS r ON r.last_id >= c.id
    WHERE c.organization_id = %s AND c.started_at >= %s AND c.started_at < %s
      AND CASE WHEN c.amount_micros IS NOT NULL THEN r.last_id IS NULL
               ELSE u.id IS NULL AND NOT EXISTS (
                   SELECT FROM usage_callrevision v
                   WHERE v.organization_id = c.organization_id AND v.previous_id = c.id)
          END
    ORDER BY c.started_at, c.id"""

# The ranges of a month in their order, each with how many calls stand before it.
_PLACES = """
    SELECT first_sequence, {column} FROM (
        SELECT first_sequence, last_id - first_id + 1 AS calls,
               sum(last_id - first_id + 1) OVER (ORDER BY first_sequence) - (last_id - first_id + 1) AS before
        FROM usage_callrange WHERE organization_id = %s AND billed_month = %s
    ) AS placed WHERE {start} <= %s AND %s < {start} + calls"""

_MICROS_OF_RANGES = """
    SELECT coalesce(sum(micros), 0) FROM usage_callrange
    WHERE organization_id = %s AND first_sequence >= %s AND first_sequence < %s"""

_MICROS_WITHIN = """
    SELECT coalesce(sum(amount_micros), 0) FROM usage_call
    WHERE organization_id = %s AND started_at BETWEEN %s AND %s AND id BETWEEN %s AND %s"""


def waiting(organization_ids: Sequence[int], limit: int) -> dict[int, list[WaitingRange]]:
    """Return waiting ranges by organization, in the order of their start: those of the first `limit` calls, or more."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"organizations": columns.array(organization_ids), "limit": limit})
        rows = cursor.fetchall()
    found: dict[int, list[WaitingRange]] = {}
    calls = 0
    for organization_id, *span in rows:
        if calls < limit:
            each = WaitingRange(*span)
            calls += each.calls
            found.setdefault(organization_id, []).append(each)
    return found


def turn(organization_ids: Sequence[int], limit: int) -> list[int]:
    """Return whose waiting ranges `waiting` would return."""
    with connection.cursor() as cursor:
        cursor.execute(_TURN, {"organizations": columns.array(organization_ids), "limit": limit})
        counted = cursor.fetchall()
    before = itertools.accumulate((calls for _, calls in counted), initial=0)
    return [organization_id for (organization_id, _), calls in zip(counted, before, strict=False) if calls < limit]


def take(organization_ids: Sequence[int], limit: int) -> dict[int, list[WaitingRange]]:
    """Return waiting ranges of at most `limit` calls, as `waiting` does; the last is cut to fit.

    The caller holds the organizations' locks, so that nobody else cuts.
    """
    found = waiting(organization_ids, limit)
    surplus = sum(each.calls for ranges in found.values() for each in ranges) - limit
    if surplus > 0:
        organization_id, ranges = list(found.items())[-1]
        ranges[-1] = _cut(organization_id, ranges[-1], ranges[-1].last_id - surplus)
    return found


def before(organization_id: int, ranges: Sequence[WaitingRange], *, ends_at: datetime) -> list[WaitingRange]:
    """Return what of the ranges starts before `ends_at`; one that goes on is cut. Under the lock, as in `take`."""
    parts = []
    for each in ranges:
        if each.ends_at < ends_at:
            parts.append(each)
        elif each.starts_at < ends_at:
            with connection.cursor() as cursor:
                cursor.execute(_LAST_BEFORE, [organization_id, each.starts_at, ends_at, each.first_id, each.last_id])
                parts.append(_cut(organization_id, each, cursor.fetchone()[0]))
    return parts


def _cut(organization_id: int, whole: WaitingRange, last_id: int) -> WaitingRange:
    """Let a waiting range end with `last_id`, and return it so; the rest waits as a range of its own."""
    with connection.cursor() as cursor:
        span: list[Any] = [organization_id, whole.starts_at, whole.ends_at, whole.first_id, whole.last_id]
        cursor.execute(_HALVES, [last_id, last_id, last_id, *span])
        ends_at, micros, resumes_at = cursor.fetchone()
        rest = [last_id + 1, whole.last_id, resumes_at, whole.ends_at, whole.micros - int(micros)]
        cursor.execute(_REST, [*rest, organization_id, whole.first_id])
        cursor.execute(_SHORTEN, [last_id, ends_at, int(micros), organization_id, whole.first_id])
    return WaitingRange(whole.first_id, last_id, whole.starts_at, ends_at, int(micros))


def settle(batches: Sequence[Batch]) -> Folded:
    """Number the calls of the batches, bill them in their months, and add them to the rollups, in one statement.

    Return what they cost, and whether corrections are among them. There is one batch an organization, whose lock the
    caller holds, in a transaction, since before the batch was read; days are those of its time zone. Raises
    AlreadySettled, and then nothing has changed once the transaction is rolled back.
    """
    rows = [
        (batch.organization_id, each.first_id, batch.first_sequence + before, batch.month, batch.time_zone)
        for batch in batches
        for each, before in zip(
            batch.ranges, itertools.accumulate((each.calls for each in batch.ranges), initial=0), strict=False
        )
    ]
    ranges = [each for batch in batches for each in batch.ranges]
    folded = rollup_upkeep.fold(
        _NUMBER,
        columns.of(("organizations", "ids", "sequences", "months", "zones"), rows),
        starts_at=min(each.starts_at for each in ranges),
        ends_at=max(each.ends_at for each in ranges),
    )
    if folded.ranges != len(rows):
        raise AlreadySettled(f"Only {folded.ranges} of {len(rows)} ranges waited.")
    if folded.has_corrections:
        rollup_upkeep.correct([row[0] for row in rows], [row[1] for row in rows])
    return folded


def line_micros(batches: Sequence[Batch]) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (organization, mix, micros by the places of its rates) of calls that were just numbered, in their order."""
    keys = [(batch.organization_id, each.first_id) for batch in batches for each in batch.ranges]
    with connection.cursor() as cursor:
        cursor.execute(_LINES, columns.of(("organizations", "ids"), keys))
        yield from cursor.fetchall()


def of_month(organization_id: int, month: date, *, after: int = 0) -> Iterator[ChargedCall]:
    """Yield the calls billed in a month in the order of their numbers, from past number `after` on.

    They come from a cursor of the server's, so memory does not grow with them.
    """
    query = _CHARGED.format(condition="r.billed_month = %s AND r.first_sequence + r.last_id - r.first_id > %s")
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, [organization_id, month, after])
        while rows := cursor.fetchmany(_CHUNK):
            yield from (charged for charged in map(ChargedCall._make, rows) if charged.sequence > after)


def place_of(organization_id: int, month: date, sequence: int) -> int:
    """Return how many calls billed in a month have a lower number. Raises LookupError if none has this one."""
    first, before = _range_at(organization_id, month, sequence, column="before", start="first_sequence")
    return before + sequence - first


def sequence_at(organization_id: int, month: date, place: int) -> int:
    """Return the number of the call that `place` others billed in a month stand before. Raises LookupError."""
    first, before = _range_at(organization_id, month, place, column="before", start="before")
    return first + place - before


def _range_at(organization_id: int, month: date, value: int, **columns: str) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(_PLACES.format(**columns), [organization_id, month, value, value])
        found = cursor.fetchone()
    if found is None:
        raise LookupError(f"No call billed in {month:%Y-%m} is at {value}.")
    return int(found[0]), int(found[1])


def micros_between(organization_id: int, first_sequence: int, charge: Charge) -> int:
    """Return what the charges from `first_sequence` on, before `charge`, come to. Both lie in one settlement."""
    with connection.cursor() as cursor:
        cursor.execute(_RANGE_OF_ID, [organization_id, charge.call.id, charge.call.id])
        first_id, sequence, *_, starts_at = cursor.fetchone()
        cursor.execute(_MICROS_OF_RANGES, [organization_id, first_sequence, sequence])
        of_ranges = int(cursor.fetchone()[0])
        cursor.execute(
            _MICROS_WITHIN, [organization_id, starts_at, charge.call.started_at, first_id, charge.call.id - 1]
        )
        return of_ranges + int(cursor.fetchone()[0])


def uncharged(organization_id: int, *, starts_at: datetime, ends_at: datetime) -> Iterator[str]:
    """Yield the ids of calls of a span that neither wait for a price nor stand in a range: it should be none.

    One that was corrected before a price covered it waits for none.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNCHARGED, [organization_id, starts_at, ends_at])
        yield from (call_id for (call_id,) in cursor.fetchall())


def organizations_waiting(limit: int) -> list[int]:
    """Return up to `limit` organizations in which a charge waits."""
    waiting = CallRange.objects.filter(first_sequence=None).order_by("organization_id")
    return list(waiting.values_list("organization_id", flat=True).distinct()[:limit])


def of(call: Call) -> Charge | None:
    """Return what a call costs, None while no price covers it."""
    if call.amount_micros is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_RANGE_OF_ID, [call.organization_id, call.id, call.id])
        first_id, first_sequence, month, time_zone, received_at, _ = cursor.fetchone()
    settled = first_sequence is not None
    return Charge(
        call=call,
        currency=call.organization.currency,
        amount_micros=call.amount_micros,
        revision=revisions.of(call),
        received_at=received_at,
        sequence=first_sequence + call.id - first_id if settled else None,
        billed_month=month,
        date=call.started_at.astimezone(ZoneInfo(time_zone)).date() if settled else None,
    )


def lines(call: Call, line_micros: Sequence[int]) -> Iterator[ChargeLine]:
    """Yield the lines of a priced call, in the order of rating, with their micros, by the places of its mix."""
    snapshot = prices.snapshot(_version_of(call))
    facts = rating.CallFacts(call.duration_ms, tuple(call.mix.products), call.llm_tokens, call.llm_requests)
    quantities = rating.rate(facts, snapshot).quantities
    refs = prices.rate_refs(call.mix.rate_ids)
    for rate_id, quantity, micros in zip(call.mix.rate_ids, quantities, line_micros, strict=False):
        ref = refs[rate_id]
        if quantity or micros:
            yield ChargeLine(ref.component, ref.product, ref.label, ref.unit, ref.rate_micros, quantity, micros)


def _version_of(call: Call) -> int:
    version_id = call.mix.price_version_id
    assert version_id is not None, "the mix of a priced call has one"
    return version_id
