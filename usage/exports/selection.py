"""Which calls a file holds, and their way out of PostgreSQL: `COPY (SELECT …) TO STDOUT`, in blocks of whole rows.

The database writes the text of every cell, which is several times faster than a row a time through Python. Nothing is
kept: memory does not grow with the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Organization
from usage import calls, periods
from usage.exports import columns, focus
from usage.exports.columns import Column
from usage.models import CallRange, Component

_BLOCK = 256 * 1024
# JSON has no control characters as they stand, so with these as quote and delimiter CSV leaves a line of JSON as it is.
_COPY_JSON = r"(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
# Streams outlive what a web process grants a statement; nobody reads one for longer than this.
_PATIENCE = "1h"

_ROWS = """
    WITH m AS MATERIALIZED (
        SELECT m.id, m.products, array_to_string(m.products, ';') AS products_text, place.*,
               v.id IS NOT NULL AS is_priced, CASE WHEN v.id IS NOT NULL THEN 0 END AS nothing,
               b.reference || '@' || v.number AS price_version
        FROM usage_productmix m
        LEFT JOIN usage_priceversion v ON v.id = m.price_version_id
        LEFT JOIN usage_pricebook b ON b.id = v.book_id
        CROSS JOIN LATERAL (
            SELECT {places} FROM unnest(m.rate_ids) WITH ORDINALITY AS used (rate_id, place)
            JOIN usage_pricerate rate ON rate.id = used.rate_id
        ) AS place
    ), b AS MATERIALIZED (
        SELECT * FROM unnest(%(months)s::date[], %(names)s::text[], %(invoices)s::text[], %(starts)s::text[],
                             %(ends)s::text[]) AS b (month, name, invoice, starts_at, ends_at)
    )
    SELECT {cells}
    FROM (SELECT * FROM usage_call c WHERE {conditions} ORDER BY c.started_at, c.id) AS c
    JOIN m ON m.id = c.mix_id
    JOIN usage_callkind k ON k.id = c.kind_id
    JOIN usage_agent a ON a.id = c.agent_id
    LEFT JOIN LATERAL (
        SELECT first_id, last_id, first_sequence, billed_month FROM usage_callrange
        WHERE organization_id = %(organization)s AND first_id <= c.id ORDER BY first_id DESC LIMIT 1
    ) AS r ON r.last_id >= c.id
    LEFT JOIN b ON b.month = r.billed_month
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = %(organization)s AND v.id = c.id
    {detail}
    {settled}
    ORDER BY c.started_at, c.id"""
_DETAIL = """LEFT JOIN usage_calldetail d
      ON d.organization_id = %(organization)s AND d.started_at = c.started_at AND d.id = c.id {span}"""
_COUNT = "SELECT count(*) FROM (SELECT FROM usage_call c WHERE {conditions} LIMIT %(most)s) AS counted"
_END_OF_CHUNK = """
    SELECT c.started_at, c.id FROM usage_call c WHERE {conditions}
    ORDER BY c.started_at, c.id OFFSET %(rows)s - 1 LIMIT 1"""


class Place(NamedTuple):
    """A call's place in the order of a file: the earliest start first."""

    started_at: datetime
    id: int


class Style(Enum):
    """How cells are written: for spreadsheets, plain for programs, or a JSON object a row."""

    CSV = "csv"
    PLAIN = "plain"
    JSON = "json"
    FOCUS = "focus"


@dataclass(frozen=True)
class Selection:
    """Some calls of an organization, and the invoices of its months by number, which billing knows."""

    organization: Organization
    filters: calls.Filters
    invoices: Mapping[date, str] = field(default_factory=dict)

    def count(self, *, most: int) -> int:
        """Return how many calls there are, counting no further than `most`."""
        conditions, values = calls.conditions_of(self.organization.pk, self.filters)
        with connection.cursor() as cursor:
            cursor.execute(_COUNT.format(conditions=" AND ".join(conditions)), values | {"most": most})
            return int(cursor.fetchone()[0])

    def end_of_chunk(self, after: Place | None, *, rows: int) -> Place | None:
        """Return the place of the last of the next `rows` calls, None if fewer are left."""
        conditions, values = self._conditions(after, None)
        with connection.cursor() as cursor:
            cursor.execute(_END_OF_CHUNK.format(conditions=conditions), values | {"rows": rows})
            found = cursor.fetchone()
        return Place(*found) if found else None

    def columns(self, style: Style) -> list[Column]:
        """Return the columns of a style."""
        return focus.columns() if style is Style.FOCUS else columns.of_calls(columns.most_places())

    def query(
        self, style: Style, *, after: Place | None = None, upto: Place | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Return the query of the calls after one place, up to another, with its values."""
        shown = self.columns(style)
        conditions, values = self._conditions(after, upto)
        query = _ROWS.format(
            places=columns.places_of(Component.values),
            cells=", ".join(f'{_cell(each, style)} AS "{each.name}"' for each in shown),
            conditions=conditions,
            detail=_DETAIL.format(span=self._detail_span()),
            settled="WHERE r.first_sequence IS NOT NULL" if style is Style.FOCUS else "",
        )
        return query, values | self._constants()

    def copy(
        self, style: Style, *, after: Place | None = None, upto: Place | None = None, header: bool = False
    ) -> "Copy":
        """Return the rows as text: CSV, with a header line if asked for, or a JSON object a line."""
        query, values = self.query(style, after=after, upto=upto)
        if style is Style.JSON:
            return Copy(f"COPY (SELECT row_to_json(line) FROM ({query}) AS line) TO STDOUT WITH {_COPY_JSON}", values)
        return Copy(f"COPY ({query}) TO STDOUT WITH (FORMAT csv{', HEADER' if header else ''})", values)

    def rows(
        self, style: Style, *, after: Place | None = None, upto: Place | None = None, fetch: int = 2_000
    ) -> Iterator[Sequence[Any]]:
        """Yield rows of typed cells, from a cursor of the server's."""
        query, values = self.query(style, after=after, upto=upto)
        with _patiently(), connection.chunked_cursor() as cursor:
            cursor.execute(query, values)
            while found := cursor.fetchmany(fetch):
                yield from found

    def _conditions(self, after: Place | None, upto: Place | None) -> tuple[str, dict[str, Any]]:
        conditions, values = calls.conditions_of(self.organization.pk, self.filters)
        if after:
            conditions.append("(c.started_at, c.id) > (%(after_at)s, %(after_id)s)")
            values |= {"after_at": after.started_at, "after_id": after.id}
        if upto:
            conditions.append("(c.started_at, c.id) <= (%(upto_at)s, %(upto_id)s)")
            values |= {"upto_at": upto.started_at, "upto_id": upto.id}
        return " AND ".join(conditions), values

    def _detail_span(self) -> str:
        """Return the filters' span once more, for the details: the planner does not see that it is the same."""
        starts = "AND d.started_at >= %(starts_at)s" if self.filters.starts_at else ""
        return f"{starts} AND d.started_at < %(ends_at)s" if self.filters.ends_at else starts

    def _constants(self) -> dict[str, Any]:
        zone, months = self.organization.zone, self._months()
        bounds = [periods.bounds(month, zone) for month in months]
        return {
            "zone": self.organization.time_zone,
            "currency": self.organization.currency,
            "account": self.organization.reference,
            "account_name": self.organization.name,
            "vendor": settings.VENDOR_NAME,
            "months": months,
            "names": [f"{month:%Y-%m}" for month in months],
            "invoices": [self.invoices.get(month) for month in months],
            "starts": [f"{starts_at:%Y-%m-%dT%H:%M:%SZ}" for starts_at, _ in bounds],
            "ends": [f"{ends_at:%Y-%m-%dT%H:%M:%SZ}" for _, ends_at in bounds],
        }

    def _months(self) -> list[date]:
        """Return the months in which anything is billed, and one more, in which settlement may begin meanwhile."""
        settled = CallRange.objects.filter(organization=self.organization, billed_month__isnull=False)
        billed = settled.order_by().values_list("billed_month", flat=True).distinct()
        months = sorted(month for month in billed if month)
        return [*months, periods.next_month(months[-1])] if months else []


class Copy:
    """What PostgreSQL copies out, in blocks of whole rows; `count` says how many rows it was, once it is read."""

    def __init__(self, statement: str, values: Mapping[str, Any], *, block: int = _BLOCK) -> None:
        self.statement, self.values, self.block = statement, values, block
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        rows: list[bytes] = []
        size = 0
        with _patiently(), connection.cursor() as cursor:
            with cursor.copy(self.statement, self.values) as stream:
                for row in stream:
                    rows.append(row)
                    size += len(row)
                    if size >= self.block:
                        yield b"".join(rows)
                        rows.clear()
                        size = 0
            self.count = cursor.rowcount
        if rows:
            yield b"".join(rows)


@contextmanager
def _patiently() -> Iterator[None]:
    """Read in a transaction of its own, which may take as long as the reader needs."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [_PATIENCE])
        yield


def _cell(column: Column, style: Style) -> str:
    if style is Style.JSON:
        return column.in_json
    return column.sql if style is Style.PLAIN else column.in_csv
