"""Glue between the broker and receipts: ids in, one verb, safe twice. What is lost, the sweep finds."""

from celery import shared_task

from accounts import clock, queueing
from billing_portal.billing.receipts import jobs


@shared_task(time_limit=3600)
def write_receipt(file_id: int) -> None:
    """Write one receipt's file."""
    jobs.write(file_id, clock=clock.now)


@shared_task
def continue_receipts() -> None:
    """Take up files that were not queued, or whose worker is gone, and remove those whose time is over."""
    for file_id in jobs.abandoned(limit=50):
        queueing.send(write_receipt, file_id)
    jobs.expire(now=clock.now())
