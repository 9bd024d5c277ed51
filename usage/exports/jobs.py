"""Exports in the background: asked for, written chunk by chunk, fetched for some days, removed.

After every chunk the row says how far the file is good. A worker that was killed is noticed by the time its row was
last touched; the next one goes on there, or begins anew where the format is only whole. Each chunk is read as the
calls are then: nothing holds a snapshot for minutes, and no call stands in two chunks, since a call never changes its
place.
"""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts import replica
from accounts.models import Organization, User
from usage.calls import Filters
from usage.exports import formats
from usage.exports.formats import FORMATS, Writer
from usage.exports.selection import Place, Selection
from usage.models import Export

log = structlog.get_logger(__name__)

CHUNK_ROWS = 50_000
# A chunk takes seconds; a row that was not touched for so long has lost its worker.
LEASE = timedelta(minutes=3)
MOST_UNDER_WAY = 3
MOST_ATTEMPTS = 5


class TooManyExports(Exception):
    """The organization has as many exports under way as it may."""

    def __str__(self) -> str:
        return f"{MOST_UNDER_WAY} exports are being written already. Wait for one, or cancel it, and ask again."


class TooManyCalls(Exception):
    """The format cannot hold so many calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.format = FORMATS[name]

    def __str__(self) -> str:
        return (
            f"{self.format.label} holds {self.format.most:,} calls at most. Choose another format or a shorter range."
        )


class _Lost(Exception):
    """Somebody cancelled the export, or another worker has taken it over."""


def ask(*, organization: Organization, by: User, name: str, filters: Filters, calls: int, now: datetime) -> Export:
    """Ask for a file of `calls` calls, which `filters` keeps, and return it; a worker writes it afterwards.

    Raises TooManyExports, TooManyCalls.
    """
    most = FORMATS[name].most
    if most is not None and calls > most:
        raise TooManyCalls(name)
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        if Export.objects.filter(organization=organization, state__in=Export.UNDER_WAY).count() >= MOST_UNDER_WAY:
            raise TooManyExports
        return Export.objects.create(
            organization=organization, asked_by=by, asked_at=now, filters=_written(filters), format=name, calls=calls
        )


def cancel(export: Export, *, now: datetime) -> bool:
    """Stop an export, and say whether it was still under way. Its worker notices at the next chunk."""
    waiting = Export.objects.filter(pk=export.pk, state__in=Export.UNDER_WAY)
    cancelled = waiting.update(state=Export.State.CANCELLED, finished_at=now, lease=None)
    if cancelled:
        path_of(export).unlink(missing_ok=True)
    return bool(cancelled)


def filters_of(export: Export) -> Filters:
    """Return which calls the file holds."""
    fields: dict[str, Any] = dict(export.filters)
    for name in ("starts_at", "ends_at"):
        fields[name] = datetime.fromisoformat(fields[name]) if fields[name] else None
    return Filters(**fields)


def path_of(export: Export) -> Path:
    """Return where the file is, or will be."""
    return Path(settings.EXPORTS_DIR) / f"{export.public_id}.{FORMATS[export.format].extension}"


def abandoned(limit: int) -> list[int]:
    """Return exports that nobody is writing: they never began, or their worker is gone."""
    waiting = Export.objects.filter(state__in=Export.UNDER_WAY).filter(Q(lease=None) | Q(touched_at__lt=Now() - LEASE))
    return list(waiting.order_by("id").values_list("pk", flat=True)[:limit])


def write(
    export_id: int,
    *,
    selection_of: Callable[[Organization, Filters], Selection],
    tell: Callable[[Export], None],
    clock: Callable[[], datetime],
    seconds: float = 240,
) -> bool:
    """Go on with an export for so many seconds, and say whether more is to be done.

    `tell` hears of it when it is ready, in the transaction that says so. One at a time: whoever does not get the lease
    leaves it to the one who has it.
    """
    export = _claim(export_id, clock)
    if export is None:
        return False
    try:
        done = _go_on(export, selection_of(export.organization, filters_of(export)), time.monotonic() + seconds)
    except _Lost:
        return False
    except BaseException:
        # Somebody may try again: what was written up to the last chunk is good.
        Export.objects.filter(pk=export.pk, lease=export.lease).update(lease=None)
        raise
    if done:
        _finish(export, tell, now=clock())
    else:
        _mine(export).update(lease=None, attempts=0)
    return not done


def expire(*, now: datetime) -> int:
    """Remove the files whose time is over, and those that no export needs; return how many exports expired."""
    over = Export.objects.filter(state=Export.State.READY, expires_at__lte=now)
    for export in over:
        path_of(export).unlink(missing_ok=True)
        Export.objects.filter(pk=export.pk, state=Export.State.READY).update(state=Export.State.EXPIRED)
    _remove_strays()
    return len(over)


def _claim(export_id: int, clock: Callable[[], datetime]) -> Export | None:
    """Take the lease of an export that nobody writes, and return it; None if there is nothing to take."""
    free = Export.objects.filter(pk=export_id, state__in=Export.UNDER_WAY).filter(
        Q(lease=None) | Q(touched_at__lt=Now() - LEASE)
    )
    lease = uuid.uuid4()
    claimed = free.update(lease=lease, touched_at=Now(), state=Export.State.WRITING, attempts=F("attempts") + 1)
    if not claimed:
        return None
    export = Export.objects.select_related("organization", "asked_by").get(pk=export_id)
    if export.lease != lease:
        return None
    if export.attempts > MOST_ATTEMPTS:
        _mine(export).update(state=Export.State.FAILED, finished_at=clock(), lease=None)
        path_of(export).unlink(missing_ok=True)
        log.error("export failed", export=export.pk, attempts=export.attempts)
        return None
    return export


def _go_on(export: Export, selection: Selection, deadline: float) -> bool:
    """Write further chunks until the end, or until the deadline, if the file can be gone on with; say which."""
    resumes = FORMATS[export.format].resumes
    path = path_of(export)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not resumes or not path.exists() or path.stat().st_size < export.bytes_done:
        _begin_anew(export)
    # All that was committed when this began is in the file, also where it is read from a replica.
    on_replica = replica.catches_up_now()
    with formats.writing(export.format, path, at=export.bytes_done) as out:
        while _write_chunk(export, selection, out, path, on_replica=on_replica):
            if resumes and time.monotonic() > deadline:
                return False
    _make_safe(path)
    return True


def _write_chunk(export: Export, selection: Selection, out: Writer, path: Path, *, on_replica: bool) -> bool:
    """Write one chunk, and say whether more may follow."""
    after = Place(export.after_started_at, export.after_id) if export.after_started_at and export.after_id else None
    with replica.used(on_replica):
        upto = selection.end_of_chunk(after, rows=CHUNK_ROWS)
        export.rows_done += out.add(selection, after, upto)
    export.bytes_done = out.position()
    if upto is not None:
        export.after_started_at, export.after_id = upto
        _make_safe(path)
    _advance(export)
    return upto is not None


def _begin_anew(export: Export) -> None:
    export.rows_done = export.bytes_done = 0
    export.after_started_at = export.after_id = None
    _advance(export)


def _advance(export: Export) -> None:
    """Note how far the file is. Raises _Lost if the lease is another's by now."""
    noted = _mine(export).update(
        rows_done=export.rows_done,
        bytes_done=export.bytes_done,
        after_started_at=export.after_started_at,
        after_id=export.after_id,
        touched_at=Now(),
    )
    if not noted:
        raise _Lost


def _finish(export: Export, tell: Callable[[Export], None], *, now: datetime) -> None:
    size = path_of(export).stat().st_size
    with transaction.atomic():
        ready = _mine(export).update(
            state=Export.State.READY,
            bytes_done=size,
            finished_at=now,
            expires_at=now + settings.EXPORTS_KEPT,
            lease=None,
        )
        if ready:
            export.refresh_from_db()
            tell(export)
    log.info("export ready", export=export.pk, rows=export.rows_done, bytes=size, ready=bool(ready))


def _mine(export: Export) -> Any:
    return Export.objects.filter(pk=export.pk, lease=export.lease, state=Export.State.WRITING)


def _make_safe(path: Path) -> None:
    """Let the file be on the disk before the row says so."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _remove_strays() -> None:
    """Remove files of exports that were cancelled or failed while they were written, or are no more."""
    for path in Path(settings.EXPORTS_DIR).glob("*-*-*-*-*.*"):
        needed = Export.objects.filter(
            public_id=path.name.partition(".")[0], state__in=[*Export.UNDER_WAY, Export.State.READY]
        )
        if not needed.exists():
            path.unlink(missing_ok=True)


def _written(filters: Filters) -> dict[str, Any]:
    """Return the filters as they are stored."""
    fields = asdict(filters)
    for name in ("starts_at", "ends_at"):
        fields[name] = fields[name].isoformat() if fields[name] else None
    return fields
