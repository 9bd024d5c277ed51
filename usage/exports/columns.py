"""The columns of an export, written once: a name, the SQL, and a kind that readers know it by.

The SQL speaks of a call `c`, its kind `k`, agent `a`, mix `m`, range `r`, detail `d`, billed month `b`, and, of a later
revision, what it changed `v`, as `selection` joins them. Each revision is a row with what was charged of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from django.db import connection

from usage.models import Component

# What spreadsheets take for the beginning of a formula: tab, line feed, carriage return, + - = @.
_FORMULA_STARTS = "(9, 10, 13, 43, 45, 61, 64)"

_MOST_PLACES = """
    SELECT component, max(lines) FROM (
        SELECT m.id, rate.component, count(*) AS lines
        FROM usage_productmix m, unnest(m.rate_ids) AS used JOIN usage_pricerate rate ON rate.id = used
        GROUP BY 1, 2) AS mix
    GROUP BY 1"""


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"  # of the currency's major unit, six places
    INSTANT = "instant"  # UTC
    LOCAL = "local"  # a time of day in the organization's zone
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `outside` texts were typed by others, so a CSV guards spreadsheets against them.

    `json` is the SQL of the value in JSON, where it differs.
    """

    name: str
    sql: str
    kind: Kind = Kind.TEXT
    outside: bool = False
    json: str = ""

    @property
    def in_csv(self) -> str:
        """The SQL of a cell that no spreadsheet takes for a formula: such a text gets an apostrophe before it."""
        if not self.outside:
            return self.sql
        return f"CASE WHEN ascii({self.sql}) IN {_FORMULA_STARTS} THEN '''' || {self.sql} ELSE {self.sql} END"

    @property
    def in_json(self) -> str:
        return self.json or self.sql


def of_calls(places: Mapping[str, int]) -> list[Column]:
    """Return the columns of a call; `places` is how many lines of each component a call may have."""
    amount = "c.amount_micros * 0.000001"
    return [
        Column("call_id", "c.call_id", outside=True),
        Column("revision", "c.revision", Kind.INTEGER),
        Column("started_at", "c.started_at", Kind.INSTANT),
        Column("ended_at", "c.ended_at", Kind.INSTANT),
        Column("started_at_local", "c.started_at AT TIME ZONE %(zone)s", Kind.LOCAL),
        Column("time_zone", "%(zone)s::text"),
        Column("duration_ms", "c.duration_ms", Kind.INTEGER),
        Column("call_type", "k.call_type", outside=True),
        Column("status", "k.status", outside=True),
        Column("direction", "k.direction", outside=True),
        Column("disconnection_reason", "k.disconnection_reason", outside=True),
        Column("agent_id", "a.reference", outside=True),
        Column("agent_name", "a.name", outside=True),
        Column("products", "m.products_text", outside=True, json="m.products"),
        Column("currency", "%(currency)s::text"),
        Column("amount", amount, Kind.DECIMAL, json=f"({amount})::text"),
        Column("amount_micros", "c.amount_micros", Kind.INTEGER),
        Column("given_back_micros", "v.given_back_micros", Kind.INTEGER),
        Column("correction_reason", "v.reason", outside=True),
        *(
            Column(f"{component}_micros", component_micros(component, places.get(component, 0)), Kind.INTEGER)
            for component in Component.values
        ),
        Column("price_version", "m.price_version"),
        Column("sequence", "r.first_sequence + c.id - r.first_id", Kind.INTEGER),
        Column("billed_month", "b.name"),
        Column("invoice", "b.invoice"),
        Column("metadata", "d.metadata::text", Kind.JSON, json="d.metadata"),
    ]


def component_micros(component: str, places: int) -> str:
    """Return the SQL of what a call costs for a component: its lines at the mix's places of it, empty without a price.

    A mix of which no line is the component's has no such place, and a line left out at the end is zero.
    """
    if not places:
        return "m.nothing"
    lines = (f"coalesce(c.line_micros[m.{component}[{place}]], m.nothing)" for place in range(1, places + 1))
    return " + ".join(lines)


def most_places() -> dict[str, int]:
    """Return how many lines of each component a call of any mix may have."""
    with connection.cursor() as cursor:
        cursor.execute(_MOST_PLACES)
        return {component: int(lines) for component, lines in cursor.fetchall()}


def places_of(components: Sequence[str]) -> str:
    """Return the SQL of the places of each component among a mix's lines, as arrays named after it."""
    return ", ".join(
        f"array_agg(used.place::int ORDER BY used.place) FILTER (WHERE rate.component = '{component}') AS {component}"
        for component in components
    )
