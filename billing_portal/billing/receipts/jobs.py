"""Receipts as files, made in the background: asked for, written as a whole, fetched for some days, removed.

A worker that was killed is noticed by the time its row was last touched; the next one begins anew, with the same bytes
to come. One file an invoice is under way at a time, and whoever asks again is shown that one.
"""

import os
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from billing_portal.billing.models import Invoice, ReceiptFile, ReceiptPayment
from billing_portal.billing.receipts import canonical, packing, scopes, sealing

log = structlog.get_logger(__name__)

State = ReceiptFile.State
# A worker touches its row every few thousand lines; before the first it may have to read all of them once.
LEASE = timedelta(minutes=10)
MOST_ATTEMPTS = 3


class _Lost(Exception):
    """Another worker has taken the file over."""


def ask(invoice: Invoice, *, now: datetime) -> ReceiptFile:
    """Return the file of an invoice that is there or under way and says what is known now; ask for one if none does.

    A worker writes it afterwards. Raises sealing.NotFinal, scopes.NothingToProve.
    """
    sealing.check_final(invoice)
    scopes.of(invoice, now=now)
    known = newest(invoice)
    if known is not None and (known.is_under_way or is_current(known)):
        return known
    try:
        with transaction.atomic():
            return ReceiptFile.objects.create(organization_id=invoice.organization_id, invoice=invoice, asked_at=now)
    except IntegrityError:
        under_way = ReceiptFile.objects.filter(invoice=invoice, state__in=ReceiptFile.UNDER_WAY)
        return under_way.select_related("invoice").get()


def newest(invoice: Invoice) -> ReceiptFile | None:
    """Return the file that was asked for last."""
    files = ReceiptFile.objects.filter(organization_id=invoice.organization_id, invoice=invoice)
    return files.select_related("invoice").order_by("-id").first()


def is_current(file: ReceiptFile) -> bool:
    """Say whether a file can be fetched and says of the payment what is known by now."""
    if file.state != State.READY or not path_of(file).exists():
        return False
    last = ReceiptPayment.objects.filter(receipt__invoice=file.invoice).order_by("-number").first()
    return last is not None and last.number == file.payments and not sealing.has_moved(invoice=file.invoice, last=last)


def path_of(file: ReceiptFile) -> Path:
    """Return where the ZIP is, or will be: on the disk that web and worker processes share."""
    return Path(settings.EXPORTS_DIR) / "receipts" / f"{file.public_id}.zip"


def name_of(invoice: Invoice) -> str:
    """Return what the file is called for people."""
    return f"receipt-{invoice.number or invoice.stripe_invoice_id}.zip"


def abandoned(limit: int) -> list[int]:
    """Return files that nobody is writing: never begun, or their worker is gone."""
    waiting = _free().order_by("id")
    return list(waiting.values_list("pk", flat=True)[:limit])


def write(file_id: int, *, clock: Callable[[], datetime]) -> None:
    """Write a file as a whole. One at a time: whoever does not get the lease leaves it to the one who has it."""
    file = _claim(file_id)
    if file is None:
        return
    if file.attempts > MOST_ATTEMPTS:
        _fail(file, "It could not be made; we have been told.", now=clock())
        return
    try:
        _write(file, now=clock())
    except _Lost:
        return
    except packing.ContentsChanged as error:
        log.error("receipt differs from what was signed", file=file.pk, organization_id=file.organization_id)
        _fail(file, f"{error} We have been told, and look into it.", now=clock())
    except BaseException:
        _mine(file).update(lease=None)
        raise


def expire(*, now: datetime) -> int:
    """Remove the files whose time is over; return how many."""
    over = ReceiptFile.objects.filter(state=State.READY, expires_at__lte=now).order_by("id")
    for file in over:
        path_of(file).unlink(missing_ok=True)
        ReceiptFile.objects.filter(pk=file.pk, state=State.READY).update(state=State.EXPIRED)
    return len(over)


def _write(file: ReceiptFile, *, now: datetime) -> None:
    receipt = sealing.seal(file.invoice, now=now)
    payments = sealing.note_payment(receipt, now=now)
    lines = sum(count for count, _ in canonical.decode(receipt.usage_head)["files"].values())
    path = path_of(file)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{file.lease}.part")
    try:
        _touch(file, lines=lines, lines_done=0)
        packing.pack(receipt, payments, part, tell=lambda done: _touch(file, lines_done=done))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        _touch(file, lines_done=lines)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    ready: dict[str, Any] = {"bytes": path.stat().st_size, "payments": len(payments)}
    _mine(file).update(state=State.READY, finished_at=now, expires_at=now + settings.EXPORTS_KEPT, lease=None, **ready)
    log.info("receipt file ready", file=file.pk, organization_id=file.organization_id, lines=lines)


def _free() -> Any:
    lost = Q(lease=None) | Q(touched_at__lt=Now() - LEASE)
    return ReceiptFile.objects.filter(lost, state__in=ReceiptFile.UNDER_WAY)


def _claim(file_id: int) -> ReceiptFile | None:
    """Take the lease of a file that nobody writes, and return it; None if there is nothing to take."""
    lease = uuid.uuid4()
    claimed = _free().filter(pk=file_id)
    if not claimed.update(lease=lease, touched_at=Now(), state=State.WRITING, attempts=F("attempts") + 1):
        return None
    files = ReceiptFile.objects.select_related("invoice__organization")
    return files.filter(pk=file_id, lease=lease).first()


def _touch(file: ReceiptFile, **facts: int) -> None:
    """Note how far the file is. Raises _Lost if the lease is another's by now."""
    if not _mine(file).update(touched_at=Now(), **facts):
        raise _Lost


def _fail(file: ReceiptFile, failure: str, *, now: datetime) -> None:
    _mine(file).update(state=State.FAILED, failure=failure[:300], finished_at=now, lease=None)


def _mine(file: ReceiptFile) -> Any:
    return ReceiptFile.objects.filter(pk=file.pk, lease=file.lease, state=State.WRITING)


def newest_ready(invoice: Invoice) -> ReceiptFile | None:
    """Return the newest file of an invoice that can be fetched."""
    ready = ReceiptFile.objects.filter(organization_id=invoice.organization_id, invoice=invoice, state=State.READY)
    return next((file for file in ready.order_by("-id")[:3] if path_of(file).exists()), None)
