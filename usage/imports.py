"""Files of calls or conversations, recorded batch by batch, by whoever holds the file's lease.

The calls of a batch, what was refused of it, and how far the file is by then are one transaction. So whoever goes on
after a kill counts every item once, and an import tells the truth at every moment. The order is the file's.
"""

import csv
import hashlib
import io
import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TypeAlias

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from accounts.models import ApiKey, Organization, User
from usage import backlog, call_files, ingestion
from usage.call_items import FileUnreadable, Item
from usage.models import ImportJob, ImportRefusal
from usage.outcomes import intercom

log = structlog.get_logger(__name__)

BATCH = 1000
# A batch takes a second at most; a row that was not touched for so long has lost whoever recorded it.
LEASE = timedelta(minutes=1)
MOST_ATTEMPTS = 5
# More refusals than these are counted, but not kept: the file is wrong as a whole.
MOST_REFUSALS = 100_000
KEPT_FOR = timedelta(days=90)
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_JSON = (".json", ".jsonl", ".ndjson")
_PACKED = (".gz", ".xz")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


# What becomes of one item.
Answer: TypeAlias = ingestion.Answer | intercom.ItemAnswer


class FormatUnknown(ValueError):
    """The end of the file's name says nothing about what is in it."""


class TooLarge(ValueError):
    """The file is larger than `settings.IMPORTS_MOST_BYTES`."""


class _Lost(Exception):
    """Somebody cancelled the import, or has taken it over."""


def upload(
    content: Iterator[bytes],
    *,
    name: str,
    now: datetime,
    kind: str = ImportJob.Kind.CALLS,
    organization: Organization | None = None,
    by: User | None = None,
    api_key: ApiKey | None = None,
) -> ImportJob:
    """Keep an uploaded file and return its job, for a worker to record. Raises FormatUnknown, TooLarge."""
    ending = _ending(name, kind)
    public_id = uuid.uuid4()
    path = Path(settings.IMPORTS_DIR) / f"{public_id}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with path.open("xb") as file:
            size = _copy(content, file)
        return ImportJob.objects.create(
            public_id=public_id,
            organization=organization,
            asked_by=by,
            api_key=api_key,
            asked_at=now,
            kind=kind,
            name=name[-255:],
            size_bytes=size,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def check_name(name: str, kind: str = ImportJob.Kind.CALLS) -> None:
    """Raise FormatUnknown for a name whose end does not say what is in the file."""
    _ending(name, kind)


def begin(
    path: Path, *, now: datetime, organization: Organization | None = None, kind: str = ImportJob.Kind.CALLS
) -> ImportJob:
    """Return the job of a file that a command reads where it is: the one that was cut short, or a new one.

    Raises OSError, and FormatUnknown for conversations in a table.
    """
    if kind != ImportJob.Kind.CALLS:
        _ending(path.name, kind)
    path = path.absolute()
    status = path.stat()
    named = (str(path), status.st_size, status.st_mtime_ns, organization and organization.pk, str(kind))
    fingerprint = hashlib.sha256(repr(named).encode()).hexdigest()
    interrupted = ImportJob.objects.filter(fingerprint=fingerprint, state__in=ImportJob.UNDER_WAY)
    return interrupted.order_by("id").last() or ImportJob.objects.create(
        organization=organization,
        asked_at=now,
        kind=kind,
        name=path.name[-255:],
        path=str(path),
        fingerprint=fingerprint,
        size_bytes=status.st_size,
    )


def run(
    job_id: int,
    *,
    clock: Callable[[], datetime],
    seconds: float = float("inf"),
    watch: Callable[[ImportJob], None] = lambda job: None,
) -> ImportJob | None:
    """Go on with an import for so many seconds, and return it as it is then; None where it is another's to record.

    `watch` hears of it after every batch. Safe at once: whoever does not get the lease leaves it to who has it.
    """
    job = _claim(job_id, clock)
    if job is None:
        return None
    try:
        done = _go_on(job, clock, seconds, watch)
    except _Lost:
        return None
    except (FileUnreadable, OSError) as error:
        _end(job, ImportJob.State.FAILED, now=clock(), reason=_plain(error))
        return job
    except BaseException:
        _mine(job).update(lease=None)
        raise
    if done:
        _end(job, ImportJob.State.DONE, now=clock())
    else:
        _mine(job).update(lease=None, attempts=0)
    return job


def cancel(job: ImportJob, *, now: datetime) -> bool:
    """Stop an import and say whether it was still under way. What is recorded stays."""
    under_way = ImportJob.objects.filter(pk=job.pk, state__in=ImportJob.UNDER_WAY)
    cancelled = under_way.update(state=ImportJob.State.CANCELLED, finished_at=now, lease=None)
    if cancelled:
        _remove_upload(job)
    return bool(cancelled)


def refusals_as_csv(job: ImportJob) -> Iterator[str]:
    """Yield the lines of a CSV file of what was not recorded, in the order of the imported file."""
    yield _csv_line(("line", "call_id", "status", "field", "reason"))
    rows = job.refusals.order_by("position").values_list("line", "call_id", "status", "field", "reason")
    for row in rows.iterator(chunk_size=BATCH):
        yield _csv_line(row)


def abandoned(limit: int) -> list[int]:
    """Return uploads that nobody records: they never began, or who recorded them is gone."""
    waiting = ImportJob.objects.filter(_FREE, state__in=ImportJob.UNDER_WAY, path="")
    return list(waiting.order_by("id").values_list("pk", flat=True)[:limit])


def forget(*, now: datetime) -> int:
    """Remove what was imported long ago from the list, and files that no import needs; return how many of either."""
    over = ImportJob.objects.filter(finished_at__lt=now - KEPT_FOR)
    return len([job.delete() for job in over[:100]]) + _remove_strays()


_FREE = Q(lease=None) | Q(touched_at__lt=Now() - LEASE)


def _claim(job_id: int, clock: Callable[[], datetime]) -> ImportJob | None:
    lease = uuid.uuid4()
    free = ImportJob.objects.filter(_FREE, pk=job_id, state__in=ImportJob.UNDER_WAY)
    if not free.update(lease=lease, touched_at=Now(), state=ImportJob.State.RECORDING, attempts=F("attempts") + 1):
        return None
    job = ImportJob.objects.select_related("organization").get(pk=job_id)
    if job.lease != lease:
        return None
    if job.attempts > MOST_ATTEMPTS:
        _end(
            job, ImportJob.State.FAILED, now=clock(), reason=f"It failed {MOST_ATTEMPTS} times. The log has the error."
        )
        return None
    return job


def _go_on(job: ImportJob, clock: Callable[[], datetime], seconds: float, watch: Callable[[ImportJob], None]) -> bool:
    """Record batch after batch until the end, or until the time is up or settlement is behind; say whether it ended."""
    until = None
    with call_files.open_file(path_of(job)) as file:
        for batch in _batches(itertools.islice(file.items, job.items_done, None)):
            # To pass over what is recorded may take long, so the time counts from there: every turn gets further.
            until = until or time.monotonic() + seconds
            if backlog.is_too_long(most_calls=settings.API_MOST_WAITING_CALLS):
                return False
            _record(job, batch, file.bytes_read(), now=clock())
            watch(job)
            if time.monotonic() > until:
                return False
    return True


@transaction.atomic
def _record(job: ImportJob, batch: Sequence[Item], bytes_read: int, *, now: datetime) -> None:
    """Record a batch, keep what was refused, and note how far the file is. Raises _Lost, and nothing of it happened."""
    readable = [item.raw for item in batch if not item.fault]
    recorded = iter(_answers(job, readable, now))
    answers = [_fault(item) if item.fault else next(recorded) for item in batch]
    counts = Counter(answer.status for answer in answers)
    before = job.items_done
    job.items_done += len(batch)
    job.bytes_done = bytes_read
    job.recorded += counts[ingestion.RECORDED]
    job.duplicates += counts[ingestion.DUPLICATE]
    job.conflicts += counts[ingestion.CONFLICT]
    job.rejected += counts[ingestion.REJECTED]
    _keep_refusals(job, batch, answers, before)
    names = ("items_done", "bytes_done", "recorded", "duplicates", "conflicts", "rejected")
    if not _mine(job).update(touched_at=Now(), attempts=0, **{name: getattr(job, name) for name in names}):
        raise _Lost


def _answers(job: ImportJob, items: Sequence[bytes], now: datetime) -> Sequence[Answer]:
    """Record items as what the file is said to hold."""
    if job.kind == ImportJob.Kind.INTERCOM:
        return intercom.record(items, now=now, scope=job.organization)
    return ingestion.record(items, now=now, scope=job.organization, api_key_id=job.api_key_id)


def _keep_refusals(job: ImportJob, batch: Sequence[Item], answers: Sequence[Answer], before: int) -> None:
    if job.conflicts + job.rejected > MOST_REFUSALS + len(batch):
        return
    refusals = [
        ImportRefusal(
            job=job,
            position=before + place,
            line=item.line,
            call_id=(answer.call_id or "").replace("\x00", "")[:128],
            status=answer.status,
            field=(answer.field or "").replace("\x00", "")[:200],
            reason=answer.reason.replace("\x00", "")[:500],
        )
        for place, (item, answer) in enumerate(zip(batch, answers, strict=True))
        if answer.reason is not None
    ]
    ImportRefusal.objects.bulk_create(refusals)


def _fault(item: Item) -> Answer:
    return intercom.ItemAnswer(None, ingestion.REJECTED, reason=item.fault)


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield lists of at most a thousand; what was read before the file broke off comes first, then the error."""
    while True:
        batch: list[Item] = []
        try:
            batch.extend(itertools.islice(items, BATCH))
        except FileUnreadable:
            if batch:
                yield batch
            raise
        if not batch:
            return
        yield batch


def _end(job: ImportJob, state: str, *, now: datetime, reason: str = "") -> None:
    job.state, job.reason, job.finished_at = state, reason[:500], now
    if _mine(job).update(state=state, reason=job.reason, finished_at=now, lease=None):
        _remove_upload(job)
        log.info("import ended", import_id=job.pk, state=state, items=job.items_done, rejected=job.rejected)


def _mine(job: ImportJob) -> QuerySet[ImportJob]:
    return ImportJob.objects.filter(pk=job.pk, lease=job.lease, state=ImportJob.State.RECORDING)


def path_of(job: ImportJob) -> Path:
    """Return where the file is."""
    return Path(job.path) if job.path else Path(settings.IMPORTS_DIR) / f"{job.public_id}{_ending(job.name)}"


def _ending(name: str, kind: str = ImportJob.Kind.CALLS) -> str:
    """Return the end of a file's name that says what is in it. Raises FormatUnknown."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in _PACKED else ""
    if not suffixes or suffixes[-1] not in SUFFIXES or (packed and suffixes[-1] == ".parquet"):
        known = ", ".join(SUFFIXES)
        raise FormatUnknown(f"The file's name must end with one of {known}; all but Parquet may be packed: .gz, .xz.")
    if kind != ImportJob.Kind.CALLS and suffixes[-1] not in _JSON:
        raise FormatUnknown("Conversations come as JSON: an array, one object or JSON lines (.json, .jsonl, .ndjson).")
    return suffixes[-1] + packed


def _copy(content: Iterator[bytes], file: IO[bytes]) -> int:
    """Write the content to the disk, and return its size. Raises TooLarge."""
    size = 0
    for chunk in content:
        size += len(chunk)
        if size > settings.IMPORTS_MOST_BYTES:
            raise TooLarge(f"A file holds at most {settings.IMPORTS_MOST_BYTES:,} bytes.")
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return size


def _csv_line(cells: Iterable[object]) -> str:
    """Return cells as a line; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    texts = [str(cell) for cell in cells]
    line = io.StringIO()
    csv.writer(line).writerow([f"'{text}" if text.startswith(_FORMULAS) else text for text in texts])
    return line.getvalue()


def _remove_upload(job: ImportJob) -> None:
    if not job.path:
        path_of(job).unlink(missing_ok=True)


def _remove_strays() -> int:
    """Remove files of imports that ended while nobody looked, or of requests that died while they sent one."""
    removed = 0
    for path in Path(settings.IMPORTS_DIR).glob("*-*-*-*-*.*"):
        with suppress(OSError, ValueError):  # who knows whose file it is that has no id for a name
            public_id = uuid.UUID(path.name.partition(".")[0])
            is_needed = ImportJob.objects.filter(public_id=public_id, state__in=ImportJob.UNDER_WAY)
            if time.time() - path.stat().st_mtime > 3600 and not is_needed.exists():
                path.unlink()
                removed += 1
    return removed


def _plain(error: FileUnreadable | OSError) -> str:
    """Return in words for people where the file could not be followed, without naming places on the server."""
    if isinstance(error, FileUnreadable):
        return f"Line {error.line}: {error.reason} What stands before that is recorded."
    return f"The file cannot be read: {error.strerror or type(error).__name__}."
