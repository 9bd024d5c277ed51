"""Glue between the broker and what waits, or is kept, in rows. A lost task does no harm: the next finds it all."""

from celery import shared_task

from accounts import clock, idempotency, posting
from accounts.models import Letter

_BATCHES = 100


@shared_task
def send_letters_of(reference: str) -> None:
    """Send the letters of one reference."""
    posting.post(Letter.objects.filter(reference=reference), now=clock.now())


@shared_task
def send_letters() -> None:
    """Send what waits, whoever wrote it."""
    posting.post(Letter.objects.all(), now=clock.now())


@shared_task
def forget_letters() -> None:
    """Delete what nobody needs any more."""
    posting.forget(now=clock.now())


@shared_task
def forget_answers() -> None:
    """Delete the answers that no repeated request may ask for any more."""
    for _ in range(_BATCHES):
        if not idempotency.forget():
            return
