"""Sums over settled charges, kept as they are settled: a daily cube by component and product, and quarter hours.

Folding is addition, so the order and the size of batches change nothing; `rebuild` adds everything anew.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum

from usage import prices
from usage.models import DailyUsage, PriceRate, QuarterHourUsage


class Settled(Protocol):
    """What folding needs to know of a charge."""

    @property
    def started_at(self) -> datetime: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def amount_micros(self) -> int: ...
    @property
    def rate_ids(self) -> list[int]: ...
    @property
    def quantities(self) -> list[int]: ...
    @property
    def line_micros(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Total:
    """Settled usage: calls, connected milliseconds, micros."""

    calls: int
    duration_ms: int
    micros: int


@dataclass(frozen=True, slots=True)
class ProductTotal:
    """One product's part: how many calls used it, and micros."""

    component: str
    product: str
    label: str
    calls: int
    micros: int


_FOLD_DAYS = """
    INSERT INTO usage_dailyusage AS kept
        (organization_id, billed_month, date, component, product, calls, quantity, micros)
    SELECT %s, %s, cell.*
    FROM unnest(%s::date[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[]) AS cell
    ON CONFLICT (organization_id, date, component, product, billed_month) DO UPDATE SET
        calls = kept.calls + excluded.calls,
        quantity = kept.quantity + excluded.quantity,
        micros = kept.micros + excluded.micros"""

_DAY_COLUMNS = "organization_id, billed_month, date, component, product, calls, quantity, micros"
_DAYS_ANEW = """
    SELECT ch.organization_id, ch.billed_month, ch.date, r.component, r.product,
           count(*), sum(l.quantity)::bigint, sum(l.micros)::bigint
    FROM usage_charge ch
    CROSS JOIN LATERAL unnest(ch.rate_ids, ch.quantities, ch.line_micros) AS l (rate_id, quantity, micros)
    JOIN usage_pricerate r ON r.id = l.rate_id
    WHERE ch.organization_id = %s AND ch.sequence IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5"""

_QUARTER_COLUMNS = "organization_id, quarter_at, calls, duration_ms, micros"
_QUARTERS_ANEW = """
    SELECT ch.organization_id, date_bin('15 minutes', ch.started_at, 'epoch'),
           count(*), sum(c.duration_ms)::bigint, sum(ch.amount_micros)::bigint
    FROM usage_charge ch JOIN usage_call c ON c.id = ch.call_id
    WHERE ch.organization_id = %s AND ch.sequence IS NOT NULL
    GROUP BY 1, 2"""

_DIFFERING = """
    SELECT 'should be', * FROM (TABLE anew EXCEPT TABLE kept) AS missing
    UNION ALL
    SELECT 'is', * FROM (TABLE kept EXCEPT TABLE anew) AS superfluous
    ORDER BY 2, 3, 4"""

_FOLD_QUARTERS = """
    INSERT INTO usage_quarterhourusage AS kept (organization_id, quarter_at, calls, duration_ms, micros)
    SELECT %s, quarter.* FROM unnest(%s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[]) AS quarter
    ON CONFLICT (organization_id, quarter_at) DO UPDATE SET
        calls = kept.calls + excluded.calls,
        duration_ms = kept.duration_ms + excluded.duration_ms,
        micros = kept.micros + excluded.micros"""


def fold(*, organization_id: int, batch: Sequence[Settled], month: date, dates: Sequence[date]) -> None:
    """Add a batch of charges billed in `month`, each on its date, in the caller's transaction and under its lock."""
    days = _days(batch, dates)
    quarters = _quarters(batch)
    with connection.cursor() as cursor:
        if days:
            cursor.execute(_FOLD_DAYS, [organization_id, month, *_columns(days)])
        if quarters:
            cursor.execute(_FOLD_QUARTERS, [organization_id, *_columns(quarters)])


def rebuild(organization_id: int) -> None:
    """Throw the organization's rollups away and add all settled charges up anew, in the database.

    The caller holds the organization's lock, so that no settlement adds to them meanwhile.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        DailyUsage.objects.filter(organization_id=organization_id).delete()
        QuarterHourUsage.objects.filter(organization_id=organization_id).delete()
        cursor.execute(f"INSERT INTO usage_dailyusage ({_DAY_COLUMNS}) {_DAYS_ANEW}", [organization_id])
        cursor.execute(f"INSERT INTO usage_quarterhourusage ({_QUARTER_COLUMNS}) {_QUARTERS_ANEW}", [organization_id])


def verify(organization_id: int) -> list[str]:
    """Return every cell of the rollups that is not the sum of its settled charges; none when all is well."""
    found: list[str] = []
    with connection.cursor() as cursor:
        for anew, columns, table in (
            (_DAYS_ANEW, _DAY_COLUMNS, "usage_dailyusage"),
            (_QUARTERS_ANEW, _QUARTER_COLUMNS, "usage_quarterhourusage"),
        ):
            kept = f"SELECT {columns} FROM {table} WHERE organization_id = %s"  # noqa: S608 - constants of this module
            cursor.execute(f"WITH anew AS ({anew}), kept AS ({kept}) {_DIFFERING}", [organization_id] * 2)
            found += [" ".join(str(value) for value in row) for row in cursor.fetchall()]
    return found


def by_day(organization_id: int, *, starts_on: date, ends_on: date) -> dict[tuple[date, str], int]:
    """Return micros by (day, component); both days are included."""
    rows = _days_of(organization_id, starts_on, ends_on).order_by("date", "component")
    sums = rows.values_list("date", "component").annotate(total=Sum("micros"))
    return {(day, component): int(micros) for day, component, micros in sums}


def by_product(organization_id: int, *, starts_on: date, ends_on: date) -> list[ProductTotal]:
    """Return each product's part of the days, the dearest first."""
    rows = _days_of(organization_id, starts_on, ends_on).order_by().values_list("component", "product")
    sums = rows.annotate(all_calls=Sum("calls"), all_micros=Sum("micros")).order_by("-all_micros", "product")
    labels = _labels()
    return [
        ProductTotal(component, product, labels.get(product, product), int(calls), int(micros))
        for component, product, calls, micros in sums
    ]


def total(organization_id: int, *, starts_at: datetime, ends_at: datetime) -> Total:
    """Return the totals of calls that started in the half-open span; it begins and ends with a quarter hour."""
    span = QuarterHourUsage.objects.filter(quarter_at__gte=starts_at, quarter_at__lt=ends_at)
    sums = span.filter(organization_id=organization_id).aggregate(
        calls=Sum("calls"), duration_ms=Sum("duration_ms"), micros=Sum("micros")
    )
    return Total(**{name: int(value or 0) for name, value in sums.items()})


def component_totals(organization_id: int, month: date) -> dict[str, int]:
    """Return micros by component of what is billed in `month`."""
    rows = DailyUsage.objects.filter(organization_id=organization_id, billed_month=month).order_by("component")
    return {component: int(micros) for component, micros in rows.values_list("component").annotate(total=Sum("micros"))}


def _labels() -> dict[str, str]:
    """Return how price books call the products; of several names, one of the newest version."""
    named = PriceRate.objects.exclude(label="").order_by("version_id", "id")
    return dict(named.values_list("product", "label"))


def late_micros(organization_id: int, month: date) -> int:
    """Return what is billed in `month` for calls of earlier days: they arrived when their own month was closed."""
    rows = DailyUsage.objects.filter(organization_id=organization_id, billed_month=month, date__lt=month)
    return int(rows.aggregate(micros=Sum("micros"))["micros"] or 0)


def _days_of(organization_id: int, starts_on: date, ends_on: date) -> QuerySet[DailyUsage]:
    return DailyUsage.objects.filter(Q(date__gte=starts_on, date__lte=ends_on), organization_id=organization_id)


def _days(batch: Sequence[Settled], dates: Sequence[date]) -> dict[tuple[Any, ...], list[int]]:
    """Sum lines up by (day, component, product): calls, quantity, micros."""
    refs = prices.rate_refs({rate_id for charge in batch for rate_id in charge.rate_ids})
    cells: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for charge, day in zip(batch, dates, strict=True):
        for rate_id, quantity, micros in zip(charge.rate_ids, charge.quantities, charge.line_micros, strict=True):
            ref = refs[rate_id]
            cell = cells[day, ref.component, ref.product]
            cell[0] += 1
            cell[1] += quantity
            cell[2] += micros
    return cells


def _quarters(batch: Sequence[Settled]) -> dict[tuple[Any, ...], list[int]]:
    """Sum charges up by the quarter of an hour: calls, milliseconds, micros. Unconnected calls count too."""
    cells: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for charge in batch:
        start = charge.started_at
        cell = cells[(start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0),)]
        cell[0] += 1
        cell[1] += charge.duration_ms
        cell[2] += charge.amount_micros
    return cells


def _columns(cells: dict[tuple[Any, ...], list[int]]) -> list[list[Any]]:
    """Turn cells into columns, in one order for all, so that two folds never wait for each other."""
    rows = [(*key, *sums) for key, sums in sorted(cells.items())]
    return [list(column) for column in zip(*rows, strict=True)]
