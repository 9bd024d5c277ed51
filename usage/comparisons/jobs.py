"""Comparisons in the background: a log is kept, its columns are chosen, it is compared, and its files stay for a while.

Whoever compares holds the lease. What it has read lives in its session alone, so a worker that is gone leaves nothing,
and the next one begins anew.
"""

import csv
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from accounts.models import Organization, User
from usage import archived, periods
from usage.comparisons import columns as meaning
from usage.comparisons import customer_logs, matching
from usage.comparisons.columns import Columns, Unreadable
from usage.comparisons.customer_logs import LogUnreadable, Row
from usage.comparisons.matching import Total
from usage.models import Comparison
from usage.money import MICROS_PER_UNIT

log = structlog.get_logger(__name__)

State, Class = Comparison.State, Comparison.Class
MOST_ROWS = 1_000_000
MOST_DAYS = 366
BATCH = 20_000
SAMPLE_ROWS = 8
MOST_FAULTS = 100
LEASE = timedelta(minutes=5)
MOST_ATTEMPTS = 3
MOST_UNDER_WAY = 2
KEPT = timedelta(days=90)
_GUARDED = tuple(f"'{start}" for start in "=+-@\t\r\n")


class NotComparable(ValueError):
    """It cannot be compared so; the message says why, and what to do."""


def upload(
    content: Iterator[bytes],
    *,
    organization: Organization,
    by: User,
    name: str,
    starts_date: date,
    ends_date: date,
    now: datetime,
) -> Comparison:
    """Keep a customer's log, for its columns to be chosen. Raises LogUnreadable, TooLarge, NotComparable."""
    _assert_days(organization, starts_date, ends_date)
    public_id = uuid.uuid4()
    path = _folder() / f"{public_id}.log"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = customer_logs.keep(content, path, most_bytes=settings.COMPARISONS_MOST_BYTES)
    try:
        with customer_logs.open_log(path, kept.kind) as opened:
            header = opened.header
            sample = [_shown(row) for row in itertools.islice(opened.rows, SAMPLE_ROWS)]
        if not sample:
            raise LogUnreadable("The file has the names of columns and nothing below them.")
        return Comparison.objects.create(
            public_id=public_id,
            organization=organization,
            asked_by=by,
            asked_at=now,
            name=name[-255:],
            kind=kept.kind,
            encoding=kept.encoding,
            size_bytes=kept.size,
            header=header,
            sample=sample,
            starts_date=starts_date,
            ends_date=ends_date,
            expires_at=now + KEPT,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def suggested(comparison: Comparison) -> Columns:
    """Return the columns as they were chosen last time, or as their names suggest."""
    earlier = Comparison.objects.filter(organization_id=comparison.organization_id).exclude(columns={})
    remembered = earlier.order_by("-asked_at", "-id").values_list("columns", flat=True).first()
    return meaning.guess(comparison.header, comparison.sample, remembered or {})


def choose(comparison: Comparison, columns: Columns, *, tolerance_ms: int, tolerance_micros: int) -> Comparison:
    """Say what is compared, and let it wait for a worker; once. Raises NotComparable."""
    for name in filter(None, (columns.call_id, columns.duration, columns.price)):
        if name not in comparison.header:
            raise NotComparable(f"The file has no column {name}.")
    own = Comparison.objects.filter(organization_id=comparison.organization_id)
    if own.filter(state__in=Comparison.UNDER_WAY).count() >= MOST_UNDER_WAY:
        raise NotComparable(f"{MOST_UNDER_WAY} files are being compared already. Wait for one of them.")
    own.filter(pk=comparison.pk, state__in=[State.MAPPING, State.FAILED]).update(
        columns=columns.stored(),
        tolerance_ms=tolerance_ms,
        tolerance_micros=tolerance_micros,
        state=State.WAITING,
        reason="",
        attempts=0,
        rows_done=0,
        percent_done=0,
    )
    comparison.refresh_from_db()
    return comparison


def run(comparison_id: int, *, clock: Callable[[], datetime]) -> Comparison | None:
    """Compare, and return the row as it is then; None where it is another's to do."""
    comparison = _claim(comparison_id, clock)
    if comparison is None:
        return None
    started = time.monotonic()
    try:
        matching.begin()
        _read(comparison)
        _compare(comparison, clock)
    except (LogUnreadable, NotComparable) as error:
        _end(comparison, State.FAILED, now=clock(), reason=str(error))
    finally:
        with suppress(Exception):  # the session may be what failed
            matching.drop()
        _mine(comparison).update(lease=None)
    comparison.refresh_from_db()
    log.info(
        "comparison ended",
        comparison_id=comparison.pk,
        organization_id=comparison.organization_id,
        state=comparison.state,
        rows=comparison.rows_done,
        seconds=round(time.monotonic() - started, 1),
    )
    return comparison


def totals(comparison: Comparison) -> dict[str, Total]:
    """Return what came of it, by class; nothing before it is ready."""
    return {name: Total(**comparison.results[name]) for name in Class.values if name in comparison.results}


def path_of(comparison: Comparison, name: str) -> Path:
    """Return where the file of a class is."""
    return _folder() / f"{comparison.public_id}.{Class(name).value}.csv"


@dataclass(frozen=True, slots=True)
class Compared:
    """A call of a class, as a page shows it: milliseconds and micros, here and there, where there are any."""

    call_id: str
    is_ours: bool
    line: str
    our_ms: int | None
    their_ms: int | None
    our_micros: int | None
    their_micros: int | None
    at_stake_micros: int
    unreadable: str


def first_calls(comparison: Comparison, name: str, limit: int) -> list[Compared]:
    """Return the calls of a class that are most at stake; none where the file is gone."""
    try:
        with path_of(comparison, name).open(encoding="utf-8", newline="") as file:
            return [_compared(row) for row in itertools.islice(csv.DictReader(file), limit)]
    except OSError:
        return []


def _compared(row: dict[str, str]) -> Compared:
    return Compared(
        # The apostrophe guards spreadsheets alone.
        call_id=row["call_id"][1:] if row["call_id"].startswith(_GUARDED) else row["call_id"],
        is_ours=bool(row["started_at"]),
        line=row["your_line"],
        our_ms=int(row["our_duration_ms"]) if row["our_duration_ms"] else None,
        their_ms=int(row["your_duration_ms"]) if row["your_duration_ms"] else None,
        our_micros=_micros(row["our_price"]),
        their_micros=_micros(row["your_price"]),
        at_stake_micros=_micros(row["at_stake"]) or 0,
        unreadable=row["unreadable"],
    )


def _micros(price: str) -> int | None:
    return int(Decimal(price) * MICROS_PER_UNIT) if price else None


def abandoned(limit: int) -> list[int]:
    """Return those that nobody compares: they never began, or their worker is gone."""
    free = Comparison.objects.filter(_FREE, state__in=Comparison.UNDER_WAY)
    return list(free.order_by("id").values_list("pk", flat=True)[:limit])


def remove_files(comparison: Comparison) -> None:
    """Remove the log and what was made of it now; the totals stay, as disputes may rest on them."""
    Comparison.objects.filter(pk=comparison.pk).update(state=State.EXPIRED, lease=None)
    for path in _folder().glob(f"{comparison.public_id}.*"):
        path.unlink(missing_ok=True)


def forget(*, now: datetime, limit: int = 100) -> int:
    """Remove the files of comparisons whose time is over; return of how many."""
    over = Comparison.objects.filter(expires_at__lte=now).exclude(state=State.EXPIRED).order_by("expires_at", "id")
    expired = list(over[:limit])
    for each in expired:
        remove_files(each)
    return len(expired)


_FREE = Q(lease=None) | Q(touched_at__lt=Now() - LEASE)


def _read(comparison: Comparison) -> None:
    """Copy the log into the session's table, batch by batch, saying how far it is."""
    columns = Columns(**comparison.columns)
    with customer_logs.open_log(_log_of(comparison), comparison.kind) as opened:
        places = _Places(columns, opened.header)
        while rows := list(itertools.islice(opened.rows, BATCH)):
            matching.add(_meant(comparison, places, rows))
            comparison.rows_done += len(rows)
            comparison.percent_done = opened.percent()
            if comparison.rows_done > MOST_ROWS:
                raise NotComparable(f"The file has more than {MOST_ROWS:,} rows. Send it in parts, by days.")
            if not _touch(comparison, "rows_done", "percent_done", "nameless_rows", "faults"):
                raise NotComparable("Another worker has taken it over.")


class _Places:
    """Where the columns that are compared stand in a row."""

    def __init__(self, columns: Columns, header: list[str]) -> None:
        for name in filter(None, (columns.call_id, columns.duration, columns.price)):
            if name not in header:
                raise NotComparable(f"The file has no column {name}.")
        self.columns = columns
        self.call_id = header.index(columns.call_id)
        self.duration = header.index(columns.duration) if columns.duration else None
        self.price = header.index(columns.price) if columns.price else None


def _meant(
    comparison: Comparison, places: _Places, rows: list[Row]
) -> Iterator[tuple[int, str, int | None, int | None, str]]:
    for row in rows:
        try:
            name = meaning.call_id(row.cells[places.call_id])
        except Unreadable as error:
            comparison.nameless_rows += 1
            _keep_fault(comparison, row.line, row.fault or str(error))
            continue
        fault, milliseconds, price = row.fault, None, None
        try:
            if places.duration is not None:
                milliseconds = meaning.duration_ms(row.cells[places.duration], places.columns)
            if places.price is not None:
                price = meaning.micros(row.cells[places.price], places.columns)
        except Unreadable as error:
            fault = fault or str(error)
        if fault:
            _keep_fault(comparison, row.line, fault)
        yield row.line, name, milliseconds, price, fault.replace("\0", "")[:200]


def _keep_fault(comparison: Comparison, line: int, reason: str) -> None:
    if len(comparison.faults) < MOST_FAULTS:
        comparison.faults.append([line, reason.replace("\0", "")[:200]])


def _compare(comparison: Comparison, clock: Callable[[], datetime]) -> None:
    zone = comparison.organization.zone
    starts_at = periods.starts_at(comparison.starts_date, zone)
    ends_at = periods.starts_at(comparison.ends_date + timedelta(days=1), zone)
    if put_away := archived.months(comparison.organization_id, starts_at=starts_at, ends_at=ends_at):
        raise NotComparable(f"The calls of {put_away[0].month:%B %Y} are archived. Compare later days.")
    found, repeated = matching.compare(
        comparison.organization_id,
        starts_at=starts_at,
        ends_at=ends_at,
        tolerance_ms=comparison.tolerance_ms,
        tolerance_micros=comparison.tolerance_micros,
    )
    for name in Class.values:
        with path_of(comparison, name).open("wb") as file:
            file.writelines(matching.as_csv(name))
    comparison.results = {name: asdict(total) for name, total in found.items()}
    comparison.repeated_rows = repeated
    _touch(comparison, "results", "repeated_rows")
    _end(comparison, State.READY, now=clock())


def _claim(comparison_id: int, clock: Callable[[], datetime]) -> Comparison | None:
    lease = uuid.uuid4()
    free = Comparison.objects.filter(_FREE, pk=comparison_id, state__in=Comparison.UNDER_WAY)
    if not free.update(lease=lease, touched_at=Now(), state=State.COMPARING, attempts=F("attempts") + 1):
        return None
    comparison = Comparison.objects.select_related("organization").get(pk=comparison_id)
    if comparison.lease != lease:
        return None
    if comparison.attempts > MOST_ATTEMPTS:
        reason = f"It failed {MOST_ATTEMPTS} times; we look into it. Nothing of your file is lost."
        _end(comparison, State.FAILED, now=clock(), reason=reason)
        log.error("comparison failed", comparison_id=comparison.pk, attempts=comparison.attempts)
        return None
    comparison.rows_done, comparison.nameless_rows, comparison.faults = 0, 0, []
    return comparison


def _mine(comparison: Comparison) -> QuerySet[Comparison]:
    return Comparison.objects.filter(pk=comparison.pk, lease=comparison.lease, state=State.COMPARING)


def _touch(comparison: Comparison, *names: str) -> bool:
    return bool(_mine(comparison).update(touched_at=Now(), **{name: getattr(comparison, name) for name in names}))


def _end(comparison: Comparison, state: str, *, now: datetime, reason: str = "") -> None:
    percent = 100 if state == State.READY else comparison.percent_done
    _mine(comparison).update(state=state, reason=reason[:500], finished_at=now, lease=None, percent_done=percent)


def _assert_days(organization: Organization, starts_date: date, ends_date: date) -> None:
    if not starts_date <= ends_date:
        raise NotComparable("The last day is before the first.")
    if (ends_date - starts_date).days >= MOST_DAYS:
        raise NotComparable("At most a year is compared at once.")


def _log_of(comparison: Comparison) -> Path:
    return _folder() / f"{comparison.public_id}.log"


def _folder() -> Path:
    return Path(settings.COMPARISONS_DIR)


def _shown(row: Row) -> list[Any]:
    return ["" if cell is None else str(cell).replace("\0", "")[:200] for cell in row.cells]
